//! A chart of bars as SVG: sorted, from the best.

use super::page::escape;
use super::scale::Axis;

const WIDTH: f64 = 1140.0;
const LEFT: f64 = 340.0;
const RIGHT: f64 = 180.0;
const TOP: f64 = 8.0;
const ROW: f64 = 25.0;
const BOTTOM: f64 = 44.0;

/// One bar.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) class: &'static str,
    pub(crate) ours: bool,
    pub(crate) value: f64,
    /// A second value, at the end of a thin line: p99 behind the p50.
    pub(crate) whisker: Option<f64>,
    /// Said behind the bar.
    pub(crate) text: String,
}

/// A chart of bars.
#[derive(Debug)]
pub(crate) struct Bars {
    pub(crate) title: String,
    pub(crate) axis: Axis,
    pub(crate) bars: Vec<Bar>,
    /// Whether the largest is the best.
    pub(crate) largest_first: bool,
}

impl Bars {
    /// As HTML; nothing if there is nothing to draw.
    pub(crate) fn html(&self) -> String {
        let mut bars: Vec<_> = self.bars.iter().filter(|bar| bar.value.is_finite()).collect();
        if bars.is_empty() {
            return String::new();
        }
        bars.sort_by(|a, b| a.value.total_cmp(&b.value));
        if self.largest_first {
            bars.reverse();
        }
        let bottom = TOP + ROW * bars.len() as f64;
        let height = bottom + BOTTOM;
        let mut svg = String::new();
        for (value, text) in &self.axis.ticks {
            let x = self.x_of(*value);
            svg += &format!("<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/>");
            if let Some(text) = text {
                let y = bottom + 16.0;
                svg +=
                    &format!("<text class=\"mid\" x=\"{x:.1}\" y=\"{y}\">{}</text>", escape(text));
            }
        }
        for (index, bar) in bars.iter().enumerate() {
            svg += &self.bar(bar, TOP + ROW * index as f64);
        }
        let (middle, last) = ((LEFT + WIDTH - RIGHT) / 2.0, height - 8.0);
        let (title, name) = (escape(&self.title), escape(&self.axis.title));
        format!(
            "<figure class=\"wide\"><figcaption>{title}</figcaption>\
             <svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">\n{svg}\
             <text class=\"mid name\" x=\"{middle}\" y=\"{last}\">{name}</text></svg></figure>\n"
        )
    }

    fn bar(&self, bar: &Bar, top: f64) -> String {
        let Bar { label, class, ours, value, whisker, text } = bar;
        let ours = if *ours { " ours" } else { "" };
        let end = self.x_of(*value).max(LEFT + 1.0);
        let (width, middle, baseline) = (end - LEFT, top + ROW / 2.0, top + ROW / 2.0 + 4.0);
        let mut svg = format!(
            "<g class=\"{class}{ours}\"><text class=\"end label\" x=\"{:.1}\" y=\"{baseline}\">{}</text>\
             <rect class=\"bar\" x=\"{LEFT}\" y=\"{}\" width=\"{width:.1}\" height=\"{}\"/>",
            LEFT - 8.0,
            escape(label),
            top + 4.0,
            ROW - 8.0
        );
        let mut last = end;
        if let Some(far) = whisker.map(|value| self.x_of(value)).filter(|far| *far > end) {
            svg += &format!(
                "<path class=\"whisker\" d=\"M{end:.1} {middle}H{far:.1}M{far:.1} {:.1}V{:.1}\"/>",
                middle - 5.0,
                middle + 5.0
            );
            last = far;
        }
        let (x, text) = (last + 8.0, escape(text));
        svg + &format!("<text class=\"label\" x=\"{x:.1}\" y=\"{baseline}\">{text}</text></g>\n")
    }

    fn x_of(&self, value: f64) -> f64 {
        LEFT + self.axis.place(value) * (WIDTH - RIGHT - LEFT)
    }
}
