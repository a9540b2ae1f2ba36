//! What a model may raise, and what the host is told.

use super::*;

/// A model whose one statement does something bad.
fn doing(statement: &str) -> PythonModel {
    let source = format!(
        "
import sys
class Mute(Exception):
    def __str__(self): raise ValueError('no words')
class Liar(BaseException):
    __module__ = 7
    def __str__(self): return 7
class Quitter(Exception):
    def __str__(self): sys.exit(9)
class Meta(type):
    def __getattribute__(self, name): raise RuntimeError(name)
class Hidden(Exception, metaclass=Meta): pass
class Tail(str):
    def encode(self, *_): raise RuntimeError
class Outer:
    class Inner(Exception): pass
def recurse(): return recurse()
def f():
    {statement}
"
    );
    case(&source, "f").start().unwrap()
}

/// Two times, because the first must leave the model as it was.
#[track_caller]
fn raised(statement: &str) -> PythonError {
    let mut model = doing(statement);
    exception(&mut model, &[]);
    exception(&mut model, &[])
}

#[test]
fn an_exception_carries_its_type_its_message_and_its_traceback() {
    on_python(|| {
        let error = raised("return {}['missing']");
        assert_eq!((&*error.kind, &*error.message), ("KeyError", "'missing'"));
        assert!(error.traceback.starts_with("Traceback (most recent call last):\n"));
        assert!(error.traceback.contains(", in f\n"), "{}", error.traceback);
        assert!(error.traceback.ends_with("KeyError: 'missing'\n"), "{}", error.traceback);
        let kind = raised("raise Outer.Inner('x')").kind;
        assert!(kind.starts_with("case_") && kind.ends_with(".Outer.Inner"), "{kind}");
    });
}

#[test]
fn leaving_python_is_an_exception_like_any_other() {
    on_python(|| {
        let cases = [
            ("raise SystemExit", "SystemExit", ""),
            ("sys.exit(3)", "SystemExit", "3"),
            ("exit()", "SystemExit", "None"),
            ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
            ("raise GeneratorExit('x')", "GeneratorExit", "x"),
            ("raise BaseException('x')", "BaseException", "x"),
        ];
        for (statement, kind, message) in cases {
            let error = raised(statement);
            assert_eq!((&*error.kind, &*error.message), (kind, message), "{statement}");
        }
    });
}

#[test]
fn exceptions_that_cannot_be_described_are_described_as_far_as_they_can() {
    on_python(|| {
        for (statement, name) in [("raise Mute", "Mute"), ("raise Quitter", "Quitter")] {
            let error = raised(statement);
            assert!(error.kind.ends_with(name), "{error:?}");
            assert_eq!(error.message, "<exception str() failed>");
            assert!(error.traceback.contains(", in f\n"), "{}", error.traceback);
        }
        let error = raised("raise Liar");
        assert_eq!((&*error.kind, &*error.message), ("Liar", "<exception str() failed>"));
        let error = raised("raise Hidden('x')");
        assert_eq!((&*error.kind, &*error.message), ("<unnamed type>", "x"));
        assert!(error.traceback.contains(", in f\n"), "{}", error.traceback);
    });
}

#[test]
fn text_that_utf8_does_not_have_is_escaped() {
    on_python(|| {
        assert_eq!(raised("raise ValueError('a\\udc80\\0ä')").message, "a\\udc80\0ä");
        assert_eq!(raised("raise ValueError(Tail('\\ud800'))").message, "\\ud800");
    });
}

#[test]
fn causes_and_endless_recursion_are_in_the_traceback() {
    on_python(|| {
        let error = raised(
            "
    try: 1 / 0
    except Exception as e: raise OSError('x') from e",
        );
        assert_eq!(error.kind, "OSError");
        assert!(error.traceback.contains("ZeroDivisionError"), "{}", error.traceback);
        assert!(error.traceback.contains("direct cause"), "{}", error.traceback);
        let error = raised("recurse()");
        assert_eq!(error.kind, "RecursionError");
        assert!(error.traceback.contains("more times"), "{}", error.traceback);
    });
}

#[test]
fn the_parts_of_a_group_are_in_the_traceback() {
    on_python(|| {
        if Python::attach(|py| py.version_info() < (3, 11)) {
            return; // there are none
        }
        let error = raised("raise ExceptionGroup('two', [ValueError('a'), OSError('b')])");
        assert_eq!((&*error.kind, &*error.message), ("ExceptionGroup", "two (2 sub-exceptions)"));
        assert!(error.traceback.contains("ValueError: a"), "{}", error.traceback);
        assert!(error.traceback.contains("OSError: b"), "{}", error.traceback);
    });
}

#[test]
fn a_broken_traceback_module_costs_the_details_only() {
    on_python(|| {
        let breakages = [
            "sys.modules['traceback'] = None",
            "import traceback; traceback.format_exception = lambda *_: 1 / 0",
            "import traceback; traceback.format_exception = lambda *_: [7]",
            "import traceback; traceback.format_exception = lambda *_: sys.exit()",
        ];
        Python::attach(|py| {
            let original = py.import("traceback").unwrap();
            let format = original.getattr("format_exception").unwrap();
            let modules = py.import("sys").unwrap().getattr("modules").unwrap();
            for breakage in breakages {
                let error = exception(&mut doing(&format!("{breakage}; raise OSError('x')")), &[]);
                modules.set_item("traceback", &original).unwrap();
                original.setattr("format_exception", &format).unwrap();
                assert_eq!((&*error.kind, &*error.message), ("OSError", "x"), "{breakage}");
                assert!(error.traceback.contains(", in f\n"), "{breakage}: {}", error.traceback);
                assert!(error.traceback.contains("OSError: x\n"), "{breakage}");
            }
        });
    });
}

#[test]
fn an_exception_fits_into_little_room() {
    on_python(|| {
        let mut model = doing("raise ValueError('ä' * 1_000_000)");
        for room in [64, 1000, 4096, 1 << 20] {
            let Ended::Python(error) = handle_in(&mut model, &[], room) else { panic!() };
            assert_eq!(error.kind, "ValueError");
        }
    });
}
