//! What nearcall is measured against on the same machine: the limits that no engine between two
//! processes can beat, and the same Python functions called in one process.
//!
//! Reads orders from stdin ([`carry_out`]); the benchmark starts it.

mod batches;
mod cache_line;
mod call;
mod futex;
mod in_process;
mod interpreter;
mod lock;
mod objects;
mod pair;
mod words;

use anyhow::bail;
use nearcall_bench::measure::Turn;
use nearcall_bench::order::{Order, carry_out};

fn main() -> anyhow::Result<()> {
    match pair::asked_to_be_a_peer()? {
        Some(peer) => peer.serve(),
        None => carry_out(turn),
    }
}

fn turn(order: &Order) -> anyhow::Result<Turn> {
    match order.system.as_str() {
        in_process::ALONE => in_process::alone(order),
        in_process::STATE_KEPT => in_process::state_kept(order),
        in_process::PLAIN_ATTACH => in_process::plain_attach(order),
        cache_line::NAME => cache_line::turn(order),
        futex::NAME | futex::WITH_PYTHON => futex::turn(order),
        lock::NAME => lock::turn(order),
        _ => bail!("there is no such system here"),
    }
}
