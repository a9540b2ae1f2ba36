use super::*;
#[test]
fn bench() {
    on_python(|| {
        let src = "
VALUES=[float(i) for i in range(1000)]
TEXTS=['text']*1000
class E:
    def noop(self, *, float_features, str_features, int_feature): return None
    def tup(self, *, float_features, str_features, int_feature): return 1, ''
    def nothing(self): return None
    def floats(self): return VALUES
    def rich(self): return {'a': [1,2.5,'x'], 'b': (None, True)}
";
        let sig =
            Signature::new().floats("float_features", 3).strs("str_features", 2).int("int_feature");
        let bytes = task((vec![1.1, 11.2, 0.3], vec!["abc", "cdavfdv"], 27_i64));
        let mut answer = AnswerBuf::new(1 << 16);
        for (m, s, b) in [
            ("noop", sig.clone(), bytes.clone()),
            ("tup", sig, bytes),
            ("nothing", Signature::new(), vec![]),
            ("floats", Signature::new(), vec![]),
            ("rich", Signature::new(), vec![]),
        ] {
            let mut model = case(src, "E").method(m).signature(s).start().unwrap();
            let mut best = f64::MAX;
            for _ in 0..10 {
                let t = std::time::Instant::now();
                for _ in 0..200_000 {
                    model.handle(&b, &mut answer);
                    std::hint::black_box(answer.finish());
                }
                best = best.min(t.elapsed().as_nanos() as f64 / 200_000.0);
            }
            let t = std::time::Instant::now();
            for _ in 0..1_000_000 {
                std::hint::black_box(model.alone());
            }
            eprintln!("{m}: {best:.1} ns; alone {:.1}", t.elapsed().as_nanos() as f64 / 1e6);
        }
    });
}
