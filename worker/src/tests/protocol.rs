//! From `module:callable` to a model: what is found, what is called when, what is said if not.

use super::*;

#[track_caller]
fn assert_error(error: &PythonError, kind: &str, words: &[&str]) {
    assert_eq!(error.kind, kind, "{error:?}");
    for word in words {
        assert!(error.message.contains(word), "{word:?} is not in {:?}", error.message);
    }
    assert!(error.traceback.contains(&error.message), "{error:?}");
}

fn features() -> Signature {
    Signature::new().floats("float_features", 3).strs("str_features", 2).int("int_feature")
}

fn features_task() -> Vec<u8> {
    task((vec![1.1, 11.2, 0.3], vec!["abc", "cdavfdv"], 27_i64))
}

/// A model like the seed's.
const ENGINE: &str = "
class Engine:
    def initialize(self, **kwargs):
        self.kwargs = kwargs

    def run_big_model(self, *, float_features, str_features, int_feature):
        z = int(sum(abs(v) for v in float_features))
        z += sum(len(s.upper()) for s in str_features)
        z += len([' '] * int_feature)
        return z, ''

    def configured(self):
        return self.kwargs

    def __call__(self):
        return 'called'

    @staticmethod
    def static(*, x):
        return x

    @classmethod
    def of_class(cls, *, x):
        return [cls.__name__, x]
";

#[test]
fn the_seeds_model_works_unchanged() {
    on_python(|| {
        let seed = env::var_os("NEARCALL_SEED").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/seed"),
            PathBuf::from,
        );
        if !seed.join("py4cc1/py4cc.py").exists() {
            eprintln!("SKIPPED: no seed in {} (set NEARCALL_SEED)", seed.display());
            return;
        }
        let mut model = case_of("py4cc1.py4cc", "Engine")
            .path(&seed)
            .method("run_big_model")
            .init_kwargs("{\"config\": {\"a\": 38}}")
            .signature(features())
            .start()
            .unwrap();
        let expected = Value::Tuple(vec![Value::Int(49), Value::Str(String::new())]);
        assert_eq!(value(&mut model, &features_task()), expected);
    });
}

#[test]
fn a_class_is_constructed_initialized_and_its_method_called_by_keyword() {
    on_python(|| {
        let mut model =
            case(ENGINE, "Engine").method("run_big_model").signature(features()).start().unwrap();
        let expected = Value::Tuple(vec![Value::Int(49), Value::Str(String::new())]);
        assert_eq!(value(&mut model, &features_task()), expected);
    });
}

#[test]
fn initialize_gets_the_keywords_from_the_json() {
    on_python(|| {
        let json = r#"{"config": {"a": [1, 2.5, null, true]}, "größe": "x"}"#;
        let mut model =
            case(ENGINE, "Engine").method("configured").init_kwargs(json).start().unwrap();
        let a = vec![Value::Int(1), Value::Float(2.5), Value::None, Value::Bool(true)];
        assert_eq!(
            value(&mut model, &[]),
            Value::Dict(vec![
                ("config".into(), Value::Dict(vec![("a".into(), Value::List(a))])),
                ("größe".into(), Value::Str("x".into())),
            ])
        );
        // Without any it is called all the same.
        let mut model = case(ENGINE, "Engine").method("configured").start().unwrap();
        assert_eq!(value(&mut model, &[]), Value::Dict(vec![]));
    });
}

#[test]
fn without_a_method_the_instance_is_called() {
    on_python(|| {
        let mut model = case(ENGINE, "Engine").start().unwrap();
        assert_eq!(value(&mut model, &[]), Value::Str("called".into()));
    });
}

#[test]
fn static_and_class_methods_will_do() {
    on_python(|| {
        let x = || Signature::new().int("x");
        let mut model = case(ENGINE, "Engine").method("static").signature(x()).start().unwrap();
        assert_eq!(value(&mut model, &task(7_i64)), Value::Int(7));
        let mut model = case(ENGINE, "Engine").method("of_class").signature(x()).start().unwrap();
        let expected = vec![Value::Str("Engine".into()), Value::Int(7)];
        assert_eq!(value(&mut model, &task(7_i64)), Value::List(expected));
    });
}

#[test]
fn whatever_else_can_be_called_is_called_as_it_is() {
    on_python(|| {
        let source = "
import functools
class Engine:
    class Part:
        def double(self, x): return 2 * x
        def __call__(self, x): return 3 * x
        part = functools.partialmethod(double)
part = Engine.Part()
Engine.made = part
def five(x, times=1, **rest): return 5 * x * times
@functools.wraps(five)
def wrapped(*args, **kwargs): return five(*args, times=2, **kwargs)
def takes_more(x, session): return session * x
@functools.wraps(takes_more)
def injects(x): return takes_more(x, 11)
partial = functools.partial(five, times=3)
";
        let cases = [
            ("five", None, 5),
            ("wrapped", None, 10),
            ("injects", None, 11),
            ("partial", None, 15),
            ("part", None, 3),
            ("part", Some("double"), 2),
            ("Engine.made.double", None, 2),
            ("Engine.Part", None, 3),
            ("Engine.Part", Some("double"), 2),
            ("Engine.Part", Some("part"), 2),
        ];
        for (callable, method, expected) in cases {
            let mut case = case(source, callable).signature(Signature::new().int("x"));
            case.setup.model.method = method.map(str::to_owned);
            let mut model = case.start().unwrap();
            assert_eq!(value(&mut model, &task(1_i64)), Value::Int(expected), "{callable}");
        }
        // A builtin that tells nothing about what it takes is not checked.
        let mut model = case_of("builtins", "getattr").start().unwrap();
        assert_eq!(exception(&mut model, &[]).kind, "TypeError");
    });
}

#[test]
fn a_missing_module_is_named_with_the_places_searched() {
    on_python(|| {
        let folder = Folder::new(&[("there.py", "import not_there_either")]);
        let error = case_of("not_there.at_all", "f").path(folder.path()).import_error();
        let place = folder.path().to_str().unwrap();
        assert_error(
            &error,
            "ModuleNotFoundError",
            &["No module named", "not_there.at_all", place],
        );
        let error = case_of("not_there", "f").import_error();
        assert_error(&error, "ModuleNotFoundError", &["not_there", "no python_path is configured"]);
        // A module that is there and misses another one is a different matter.
        let error = case_of("there", "f").path(folder.path()).import_error();
        assert_error(&error, "ModuleNotFoundError", &["No module named 'not_there_either'"]);
        assert!(!error.message.contains("looked for"));
        assert!(error.traceback.contains("there.py\", line 1"), "{}", error.traceback);
    });
}

#[test]
fn the_first_of_the_configured_folders_comes_first() {
    on_python(|| {
        let first = Folder::new(&[("twice.py", "def f(): return 'first'")]);
        let second = Folder::new(&[("twice.py", "def f(): return 'second'"), ("json.py", "1 / 0")]);
        let twice = case_of("twice", "f").path(first.path()).path(second.path());
        assert_eq!(value(&mut twice.start().unwrap(), &[]), Value::Str("first".into()));
    });
}

#[test]
fn an_import_that_raises_ends_with_what_it_raised() {
    on_python(|| {
        let folder = Folder::new(&[
            ("raises.py", "def g():\n  raise OSError('broken')\ng()"),
            ("exits.py", "import sys; sys.exit(3)"),
            ("interrupts.py", "raise KeyboardInterrupt"),
            ("typo.py", "def f(:\n  pass"),
            ("late.py", "def __getattr__(name):\n  raise OSError(name)"),
        ]);
        let kind = |module: &str| case_of(module, "f").path(folder.path()).import_error().kind;
        assert_eq!(kind("exits"), "SystemExit");
        assert_eq!(kind("interrupts"), "KeyboardInterrupt");
        assert_eq!(kind("typo"), "SyntaxError");
        assert_eq!(kind("late"), "OSError");
        let error = case_of("raises", "f").path(folder.path()).import_error();
        assert_error(&error, "OSError", &["broken"]);
        assert!(error.traceback.contains("in g\n"), "{}", error.traceback);
        assert!(!error.traceback.contains("watched"), "{}", error.traceback);
    });
}

#[test]
fn a_missing_callable_or_method_is_found_before_there_is_a_worker() {
    on_python(|| {
        let error = case(ENGINE, "Engin").import_error();
        assert_error(&error, "AttributeError", &["module case_", "(case_", ".py)", "\"Engin\""]);
        let error = case(ENGINE, "Engine.Inner").import_error();
        assert_error(&error, "AttributeError", &["Engine of module", "has no \"Inner\""]);
        let error = case(ENGINE, "Engine").method("run").import_error();
        assert_error(&error, "AttributeError", &["class case_", ":Engine has no \"run\""]);
        // `mro` is an attribute of classes, not of their instances.
        let error = case(ENGINE, "Engine").method("mro").import_error();
        assert_error(&error, "AttributeError", &["has no \"mro\""]);
        let error = case("class Silent: pass", "Silent").import_error();
        assert_error(&error, "AttributeError", &["has no \"__call__\"", "name the method to call"]);
        let error = case("def f(): pass", "f").method("g").import_error();
        assert_error(&error, "AttributeError", &[":f has no \"g\""]);
        let error = case("x = 3", "x").import_error();
        assert_error(&error, "TypeError", &[":x cannot be called", "int"]);
    });
}

#[test]
fn keywords_that_the_callable_does_not_take_are_found_before_there_is_a_worker() {
    on_python(|| {
        let method = |signature| {
            case(ENGINE, "Engine").method("run_big_model").signature(signature).import_error()
        };
        let takes = "(self, *, float_features, str_features, int_feature)";
        let error = method(Signature::new().floats("float_features", 3).int("int_features"));
        let declared = "(float_features, int_features)";
        assert_error(&error, "TypeError", &["Engine.run_big_model", declared, takes]);
        let error = method(features().int("one_more"));
        assert_error(&error, "TypeError", &["unexpected keyword argument 'one_more'", takes]);
        let error = method(features().int("self"));
        assert_error(&error, "TypeError", &["multiple values for argument 'self'"]);
        let static_method = case(ENGINE, "Engine").method("static").signature(features());
        assert_error(&static_method.import_error(), "TypeError", &["it takes (*, x)"]);
        let function = case("def f(x, /): pass", "f").signature(Signature::new().int("x"));
        assert_error(&function.import_error(), "TypeError", &[":f does not take", "(x, /)"]);
    });
}

#[test]
fn init_kwargs_that_nothing_can_take_are_an_error() {
    on_python(|| {
        let engine = |json| case(ENGINE, "Engine").init_kwargs(json).import_error();
        assert_error(&engine("{\"a\": }"), "ValueError", &["not valid JSON", "line 1 column 7"]);
        assert_error(&engine(""), "ValueError", &["not valid JSON"]);
        assert_error(&engine("[1]"), "TypeError", &["must be a JSON object", "list"]);
        assert_error(&engine("null"), "TypeError", &["must be a JSON object", "NoneType"]);
        let plain = "class Plain:\n def __call__(self): return 1\ndef f(): return 2";
        let error = case(plain, "Plain").init_kwargs("{\"a\": 1}").import_error();
        assert_error(&error, "TypeError", &["Plain has no initialize"]);
        let error = case(plain, "f").init_kwargs("{\"a\": 1}").import_error();
        assert_error(&error, "TypeError", &[":f is no class"]);
        // No keywords are no trouble.
        let mut model = case(plain, "f").init_kwargs("{}").start().unwrap();
        assert_eq!(value(&mut model, &[]), Value::Int(2));
    });
}

#[test]
fn a_constructor_or_initialize_that_raises_ends_the_start_not_the_process() {
    on_python(|| {
        let class = |body: &str| {
            let source =
                format!("import sys\nclass Engine:\n def __call__(self): pass\n def {body}");
            case(&source, "Engine").start_error()
        };
        assert_error(&class("__init__(self): raise OSError('no')"), "OSError", &["no"]);
        assert_error(&class("__init__(self): sys.exit(4)"), "SystemExit", &["4"]);
        assert_eq!(class("__init__(self): raise KeyboardInterrupt").kind, "KeyboardInterrupt");
        assert_error(&class("__init__(self, needed): pass"), "TypeError", &["needed"]);
        assert_error(&class("initialize(self): sys.exit('bye')"), "SystemExit", &["bye"]);
        assert_error(&class("initialize(self, *, needed): pass"), "TypeError", &["needed"]);
    });
}

#[test]
fn preload_runs_once_and_before_there_is_an_instance() {
    on_python(|| {
        let class = "
    def __init__(self): log.append('construct')
    def __call__(self): return log
";
        let of_class = |decorator: &str| {
            format!(
                "log = []
class Base:
    {decorator}
    def preload(*_): log.append('preload')
class Engine(Base):{class}"
            )
        };
        let of_module =
            format!("log = []\ndef preload(): log.append('preload')\nclass Engine:{class}");
        for source in [of_class("@classmethod"), of_class("@staticmethod"), of_module] {
            let (mut runtime, _) = case(&source, "Engine").import().unwrap();
            runtime.instantiate().unwrap();
            let log = value(&mut runtime.instantiate().unwrap(), &[]);
            let steps = ["preload", "construct", "construct"].map(|step| Value::Str(step.into()));
            assert_eq!(log, Value::List(steps.to_vec()), "{source}");
        }
    });
}

#[test]
fn preload_of_a_module_serves_functions() {
    on_python(|| {
        let source = "log = []\ndef preload(): log.append('preload')\ndef f(): return log";
        let mut model = case(source, "f").start().unwrap();
        assert_eq!(value(&mut model, &[]), Value::List(vec![Value::Str("preload".into())]));
        // A thing of that name which is no function is none of ours.
        let mut model = case("preload = True\ndef f(): return preload", "f").start().unwrap();
        assert_eq!(value(&mut model, &[]), Value::Bool(true));
    });
}

#[test]
fn a_preload_that_needs_an_instance_is_an_error_that_says_what_to_do() {
    on_python(|| {
        let source = "
class Engine:
    def preload(self): pass
    def __call__(self): pass
";
        let error = case(source, "Engine").import_error();
        assert_error(&error, "TypeError", &["Engine.preload", "make it a @classmethod"]);
    });
}

#[test]
fn a_preload_that_raises_ends_the_import() {
    on_python(|| {
        let source = "import sys\ndef preload(): sys.exit(5)\ndef f(): pass";
        assert_error(&case(source, "f").import_error(), "SystemExit", &["5"]);
    });
}

#[test]
fn an_instance_before_the_import_is_an_error() {
    on_python(|| {
        let Err(error) = PythonRuntime::new().instantiate() else { panic!() };
        assert_eq!(error.kind, "RuntimeError");
    });
}
