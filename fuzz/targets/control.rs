//! A packet of the control socket, as either side reads it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nearcall::fuzzing;
use nearcall_fuzz::within;

/// What lengths in a packet may claim, all together (`wire::codec`), and what there is besides.
const MOST: usize = (1 << 22) + 4096;

fuzz_target!(|data: &[u8]| {
    for decode in [fuzzing::to_server, fuzzing::from_server] {
        let Some(again) = within(MOST + 64 * data.len(), || decode(data)) else { continue };
        assert!(again.len() <= data.len(), "the encoding is the shortest");
        assert_eq!(decode(&again).as_deref(), Some(&*again));
        assert_eq!(decode(&[&again[..], &[0]].concat()), None, "a byte is left over");
    }
});
