use super::*;
use nearcall::peer::Handler;
use std::time::Instant;
#[test]
fn speed() {
    let n: u32 = std::env::var("SPEED_N").map_or(500_000, |n| n.parse().unwrap());
    in_own_process("tests::speed::speed", move || {
        let source = include_str!("../../../benches/models/bench_model.py");
        let mut model = case(source, "Model")
            .method("big_model")
            .signature(
                Signature::new()
                    .floats("float_features", 3)
                    .strs("str_features", 2)
                    .int("int_feature"),
            )
            .start()
            .unwrap();
        let bytes = task((vec![1.1f64, 11.2, 0.3], vec!["abc", "cdavfdv"], 27i64));
        let mut answer = AnswerBuf::new(4096);
        let mut out = String::new();
        for _ in 0..7 {
            let t = Instant::now();
            for _ in 0..n {
                answer.start_value();
                model.handle(&bytes, &mut answer);
                std::hint::black_box(answer.finish());
                model.tidy();
            }
            out += &format!("handle {} ", t.elapsed().as_nanos() / u128::from(n));
        }
        std::fs::write("/tmp/speed.txt", out).unwrap();
    });
}
