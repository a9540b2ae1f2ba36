#![no_main]
use libfuzzer_sys::fuzz_target;
fuzz_target!(|data: &[u8]| { let _ = nearcall_fuzz::Input(data).byte(); });
