//! The msgpack messages of the rivals that use it: `[call, {name: value}]` one way,
//! `[call, answer]` the other.

use std::io::Read;

use anyhow::{Context, bail};
use nearcall_bench::workload::{FLOATS, INT, STRS};
use rmp::Marker;
use rmp::{decode, encode};

use crate::task::{Answer, Task};

/// Appends the request.
///
/// # Errors
/// Never for a vector.
pub(crate) fn write_request(to: &mut Vec<u8>, task: Task, call: u64) -> anyhow::Result<()> {
    encode::write_array_len(to, 2)?;
    encode::write_uint(to, call)?;
    match task {
        Task::Noop => {
            encode::write_map_len(to, 1)?;
            encode::write_str(to, "number")?;
            encode::write_uint(to, call)?;
        }
        Task::BigModel => {
            encode::write_map_len(to, 3)?;
            encode::write_str(to, "float_features")?;
            encode::write_array_len(to, FLOATS.len() as u32)?;
            for float in FLOATS {
                encode::write_f64(to, float)?;
            }
            encode::write_str(to, "str_features")?;
            encode::write_array_len(to, STRS.len() as u32)?;
            for text in STRS {
                encode::write_str(to, text)?;
            }
            encode::write_str(to, "int_feature")?;
            encode::write_sint(to, INT)?;
        }
    }
    Ok(())
}

/// Reads one answer: all of `from`.
///
/// # Errors
/// For anything else.
pub(crate) fn read_answer(mut from: &[u8], task: Task) -> anyhow::Result<Answer> {
    let from = &mut from;
    expect_pair(from)?;
    let call = decode::read_int(from).ok().context("no call number in an answer")?;
    let mut text = 0;
    if task == Task::BigModel {
        expect_pair(from)?;
    }
    let value = decode::read_int(from).ok().context("no integer in an answer")?;
    if task == Task::BigModel {
        text = decode::read_str_len(from).ok().context("no text in an answer")? as usize;
        *from = from.get(text..).context("a text is cut off")?;
    }
    if !from.is_empty() {
        bail!("{} bytes behind an answer", from.len());
    }
    Ok(Answer { call, value, text })
}

fn expect_pair(from: &mut impl Read) -> anyhow::Result<()> {
    match decode::read_marker(from) {
        Ok(Marker::FixArray(2)) => Ok(()),
        other => bail!("{other:?} in an answer instead of a pair"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_all_of_its_message() {
        let answer = Answer { call: 300, value: 49, text: 0 };
        let bytes = [0x92, 0xcd, 0x01, 0x2c, 0x92, 49, 0xa0];
        assert_eq!(read_answer(&bytes, Task::BigModel).unwrap(), answer);
        assert!(read_answer(&bytes[..6], Task::BigModel).is_err());
        assert!(read_answer(&[&bytes[..], &[0xc0]].concat(), Task::BigModel).is_err());
        let noop = Answer { call: 5, value: -7, text: 0 };
        assert_eq!(read_answer(&[0x92, 5, 0xf9], Task::Noop).unwrap(), noop);
    }
}
