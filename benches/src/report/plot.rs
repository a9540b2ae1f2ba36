//! A chart of lines as SVG, its legend above it.

use super::page::escape;
use super::palette::Style;
use super::scale::Axis;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 26.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 44.0;

/// A line, or a point.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) label: String,
    pub(crate) style: Style,
    /// Drawn thicker.
    pub(crate) ours: bool,
    /// Whether each point is marked.
    pub(crate) marked: bool,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A chart of lines.
#[derive(Debug)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
}

impl Plot {
    /// As HTML; nothing if there is nothing to draw.
    pub(crate) fn html(&self) -> String {
        let series: Vec<_> = self.series.iter().filter(|one| !one.points.is_empty()).collect();
        if series.is_empty() {
            return String::new();
        }
        let legend: String = series.iter().map(|one| one.key()).collect();
        let lines: String =
            series.iter().enumerate().map(|(index, one)| self.line(index, one)).collect();
        let title = escape(&self.title);
        format!(
            "<figure><figcaption>{title}</figcaption><ul class=\"legend\">{legend}</ul>\n\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n{}{lines}</svg></figure>\n",
            self.frame()
        )
    }

    /// The grid, and the texts around it.
    fn frame(&self) -> String {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let mut svg = String::new();
        for (value, text) in &self.y.ticks {
            let y = self.y_of(*value);
            svg += &format!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>");
            if let Some(text) = text {
                let (x, y) = (LEFT - 7.0, y + 4.0);
                svg +=
                    &format!("<text class=\"end\" x=\"{x}\" y=\"{y:.1}\">{}</text>", escape(text));
            }
        }
        for (value, text) in &self.x.ticks {
            let x = self.x_of(*value);
            svg += &format!("<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/>");
            if let Some(text) = text {
                let y = bottom + 16.0;
                svg +=
                    &format!("<text class=\"mid\" x=\"{x:.1}\" y=\"{y}\">{}</text>", escape(text));
            }
        }
        let (middle, last) = ((LEFT + right) / 2.0, HEIGHT - 8.0);
        format!(
            "{svg}<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>\
             <text class=\"mid name\" x=\"{middle}\" y=\"{last}\">{}</text>\
             <text class=\"name\" x=\"6\" y=\"13\">{}</text>\n",
            escape(&self.x.title),
            escape(&self.y.title)
        )
    }

    fn line(&self, index: usize, series: &Series) -> String {
        let Series { label, style: Style { class, dash }, ours, marked, points } = series;
        let places: Vec<_> = points.iter().map(|(x, y)| (self.x_of(*x), self.y_of(*y))).collect();
        let path: Vec<_> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        let ours = if *ours { " ours" } else { "" };
        let mut svg = format!(
            "<g class=\"{class}{ours}\"><title>{}</title>\
             <path class=\"line\" stroke-dasharray=\"{dash}\" d=\"M{}\"/>",
            escape(label),
            path.join("L")
        );
        // A line of one point cannot be seen.
        if *marked || places.len() == 1 {
            // Single points may be in the same place: the first is the largest.
            let single = 10.0 - 3.0 * index.min(2) as f64;
            let radius = if places.len() == 1 { single } else { 3.5 };
            let dot = |(x, y): &(f64, f64)| {
                format!("<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"/>")
            };
            svg.extend(places.iter().map(dot));
        }
        svg + "</g>\n"
    }

    fn x_of(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (WIDTH - RIGHT - LEFT)
    }

    fn y_of(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - BOTTOM - TOP)
    }
}

impl Series {
    /// Its line in the legend.
    fn key(&self) -> String {
        let Self { label, style: Style { class, dash }, ours, marked, points } = self;
        let ours = if *ours { " ours" } else { "" };
        let line = format!("<path class=\"line\" stroke-dasharray=\"{dash}\" d=\"M1 6H33\"/>");
        let dot = "<circle class=\"dot\" cx=\"17\" cy=\"6\" r=\"3.5\"/>";
        let sample = match (points.len(), marked) {
            (1, _) => dot.to_owned(),
            (_, true) => line + dot,
            _ => line,
        };
        format!(
            "<li><svg class=\"key {class}{ours}\" viewBox=\"0 0 34 12\">{sample}</svg>{}</li>",
            escape(label)
        )
    }
}
