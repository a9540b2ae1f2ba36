//! An outcome's bytes as the host reads them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nearcall::peer::{AnswerBuf, Outcome};
use nearcall::{ValueRef, fuzzing};
use nearcall_fuzz::{Input, within};

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let room = 256 + usize::from(input.byte());
    let bytes = input.0;
    // Texts of errors are copied; nothing else is.
    let decoded = within(bytes.len() + 64, || Outcome::decode(bytes));
    let answer = fuzzing::answer(bytes);
    with_tensors_in_place(bytes, decoded.is_ok(), room);
    let Ok(outcome) = decoded else { return assert!(answer.is_none()) };
    match &outcome {
        Outcome::Value(value) => {
            let answer = answer.expect("a value is an answer");
            // As text, because NaN is not itself.
            assert_eq!(format!("{:?}", answer.value()), format!("{value:?}"));
            assert_eq!(within(0, || walk(*value)), within(0, || walk(answer.value())));
            for index in 0..4 {
                let found = answer.get(index).is_some();
                assert_eq!(found, index < positions(value));
                let _ = (answer.bool(index), answer.int(index), answer.float(index));
                let _ = (answer.str(index), answer.bytes(index));
            }
        }
        _ => assert!(answer.is_none()),
    }
    // It fits where it came from.
    let wide = encode(&outcome, bytes.len() + 4096);
    let again = Outcome::decode(&wide).expect("what was encoded decodes");
    assert_eq!(encode(&again, 8192), wide);
    if let Outcome::Value(_) = outcome {
        assert_eq!(format!("{again:?}"), format!("{outcome:?}"));
    }
    assert!(Outcome::decode(&[&wide[..], &[0]].concat()).is_err(), "a byte is left over");
    assert!(wide.len() <= bytes.len(), "the encoding is the shortest");
    let narrow = encode(&outcome, room);
    assert!(narrow.len() <= room, "{} bytes in {room}", narrow.len());
    Outcome::decode(&narrow).expect("what was cut decodes");
    // Texts of errors are cut earlier than they would have to.
    assert!(wide.len() > room || !matches!(outcome, Outcome::Value(_)) || narrow == wide);
});

/// The first byte of an outcome that is a value.
const VALUE: u8 = 0;

/// What stands where a task has room for tensors of its answer: not as much as its messages may name.
static OUTPUTS: [u8; 300] = [7; 300];

/// Tensors that are named in it are put into it, or it is refused.
fn with_tensors_in_place(bytes: &[u8], is_whole: bool, room: usize) {
    // Vectors double, and are there twice when they do; a shape of many dimensions is copied.
    let most = 8 * (bytes.len() + room) + 1024;
    let spliced = within(most, || fuzzing::splice(bytes, room, &OUTPUTS));
    if is_whole {
        return assert_eq!(spliced, Some((bytes.to_vec(), 0)), "there is nothing to put into it");
    }
    let Some((spliced, put)) = spliced else { return };
    assert!(put <= room, "{put} bytes, and there is room for {room}");
    assert!(spliced.len() <= bytes.len() + put);
    match Outcome::decode(&spliced) {
        Ok(Outcome::Value(value)) => drop(walk(value)),
        Ok(_) => panic!("it has become another outcome"),
        // Only a value is looked into.
        Err(_) => assert!(spliced == bytes && bytes.first() != Some(&VALUE)),
    }
    // Where there is no room there are empty ones only.
    let without = fuzzing::splice(bytes, 0, &OUTPUTS);
    assert_eq!(without, (put == 0).then_some((spliced, 0)));
}

/// How many values there are in it, each of them looked at.
fn walk(value: ValueRef<'_>) -> usize {
    1 + match value {
        ValueRef::List(items) | ValueRef::Tuple(items) => {
            assert_eq!(items.iter().count(), items.len());
            items.iter().map(walk).sum()
        }
        ValueRef::Dict(items) => {
            assert_eq!(items.iter().count(), items.len());
            items.iter().map(|(_, item)| walk(item)).sum()
        }
        ValueRef::Tensor(tensor) => {
            assert_eq!(tensor.bytes().len() % tensor.dtype().size(), 0);
            0
        }
        ValueRef::Str(text) => usize::from(text.chars().count() > text.len()),
        _ => 0,
    }
}

fn positions(value: &ValueRef<'_>) -> usize {
    match value {
        ValueRef::Tuple(items) => items.len(),
        _ => 1,
    }
}

fn encode(outcome: &Outcome<'_>, room: usize) -> Vec<u8> {
    let mut buffer = AnswerBuf::new(room);
    match outcome {
        Outcome::Value(value) => {
            buffer.start_value();
            buffer.value(&value.to_owned());
        }
        Outcome::Python(error) => buffer.python_error(error.clone()),
        Outcome::Refused(refusal) => buffer.refuse(refusal.clone()),
    }
    buffer.finish().to_vec()
}
