//! The program `nearcall-worker`; the library beside it has all that it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    nearcall_worker::main()
}
