//! Whatever can be called is called alike, however it came to be callable.

use super::*;

/// What each of these has in common: it gets `number`, and answers with twice that.
const SOURCE: &str = "
import functools, types

class Plain:
    def __init__(self):
        self.factor = 2
    def __call__(self, *, number):
        return self.factor * number
    def method(self, number):
        return self.factor * number
    @staticmethod
    def static(number):
        return 2 * number
    @classmethod
    def of_class(cls, number):
        return cls().factor * number
    partial_method = functools.partialmethod(method)
    @functools.lru_cache
    def cached(self, number):
        return self.factor * number
    @property
    def computed(self):
        return lambda number: self.factor * number

class Derived(Plain):
    def method(self, number):
        return super().method(number=number)

class Slotted:
    __slots__ = ('factor',)
    def __init__(self):
        self.factor = 2
    def method(self, *, number, **others):
        return self.factor * number + len(others)

def function(number):
    return 2 * number

def with_defaults(other=2, *, number, third=0):
    return other * number + third

def closure():
    factor = 2
    def inner(number):
        return factor * number
    return inner

@functools.wraps(function)
def wrapped(*args, **kwargs):
    return function(*args, **kwargs)

inner = closure()
lambda_function = lambda number: 2 * number
instance = Plain()
bound = Plain().method
bound_of_class = Plain.of_class
bound_call = Plain().__call__
partial = functools.partial(with_defaults, 2)
partial_of_method = functools.partial(Plain().method)
# Bound methods whose function is none: an object, a built-in, another bound method.
bound_object = types.MethodType(functools.partial(lambda instance, number: 2 * number), 'instance')
def three(first, second, number):
    return (first + second) * number
bound_twice = types.MethodType(types.MethodType(three, 0), 2)
";

/// Calls with several numbers, again and again.
#[track_caller]
fn doubles(case: Case) {
    let mut model = case.signature(Signature::new().int("number")).start().unwrap();
    for number in [0, 1, -7, 1 << 40] {
        assert_eq!(value(&mut model, &task(number)), Value::Int(2 * number));
        model.tidy();
    }
}

#[test]
fn whatever_stands_in_the_module_is_called() {
    on_python(|| {
        for callable in [
            "function",
            "with_defaults",
            "wrapped",
            "inner",
            "lambda_function",
            "instance",
            "bound",
            "bound_of_class",
            "bound_call",
            "partial",
            "partial_of_method",
            "bound_object",
            "bound_twice",
            "instance.method",
            "instance.static",
            "Plain.static",
            "Plain.of_class",
        ] {
            doubles(case(SOURCE, callable));
        }
    });
}

#[test]
fn each_kind_of_method_of_a_class_is_called() {
    on_python(|| {
        for class in ["Plain", "Derived"] {
            doubles(case(SOURCE, class));
            for method in ["method", "static", "of_class", "partial_method", "cached"] {
                doubles(case(SOURCE, class).method(method));
            }
        }
        doubles(case(SOURCE, "Slotted").method("method"));
        for method in ["method", "static", "of_class", "computed"] {
            doubles(case(SOURCE, "instance").method(method));
        }
    });
}

#[test]
fn built_in_functions_and_methods_are_called() {
    on_python(|| {
        let signature = || Signature::new().float("number");
        let mut model = case_of("builtins", "round").signature(signature()).start().unwrap();
        for (number, expected) in [(2.4, 2), (-7.6, -8)] {
            assert_eq!(value(&mut model, &task(number)), Value::Int(expected));
        }
        let source = "
import types
kept = [1, 2]
copy = kept.copy
# A bound method of a built-in function: as many arguments as the instance alone.
length = types.MethodType(len, kept)
";
        let mut model = case(source, "copy").start().unwrap();
        assert_eq!(value(&mut model, &[]), Value::List(vec![Value::Int(1), Value::Int(2)]));
        let mut model = case(source, "length").start().unwrap();
        assert_eq!(value(&mut model, &[]), Value::Int(2));
        // What it raises comes out as ever.
        let signature = Signature::new().str("number");
        let mut model = case_of("builtins", "round").signature(signature).start().unwrap();
        assert_eq!(exception(&mut model, &task("text")).kind, "TypeError");
    });
}

#[test]
fn the_instance_lives_as_long_as_the_model_and_no_longer() {
    on_python(|| {
        let source = "
import weakref
class Engine:
    def run(self, number):
        return [number, seen() is self]
engine = Engine()
seen = weakref.ref(engine)
f = engine.run
del engine
def is_alive():
    return seen() is not None
";
        let case = case(source, "f").signature(Signature::new().int("number"));
        let mut model = case.start().unwrap();
        let module = case.setup.model.module.clone();
        let alive = || -> bool {
            Python::attach(|py| {
                let module = py.import(&*module).unwrap();
                module.call_method0("is_alive").unwrap().extract().unwrap()
            })
        };
        Python::attach(|py| py.import(&*module).unwrap().delattr("f").unwrap());
        for number in 0..3_i64 {
            let answer = value(&mut model, &task(number));
            assert_eq!(answer, Value::List(vec![Value::Int(number), Value::Bool(true)]));
        }
        model.tidy();
        assert!(alive());
        Python::attach(|_| drop(model));
        assert!(!alive());
    });
}

#[test]
fn the_instance_gains_no_reference_by_a_call() {
    on_python(|| {
        let source = "
import sys
class Engine:
    def run(self, fails):
        if fails:
            raise ValueError
        return sys.getrefcount(self)
";
        let case = case(source, "Engine").method("run").signature(Signature::new().bool("fails"));
        let mut model = case.start().unwrap();
        let first = value(&mut model, &task(false));
        for _ in 0..100 {
            exception(&mut model, &task(true));
            assert_eq!(value(&mut model, &task(false)), first);
            model.tidy();
        }
    });
}
