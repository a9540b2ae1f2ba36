//! The systems that nearcall is measured beside: reads [`Order`]s from stdin, and carries each
//! out with the system that it names. Nothing of a system is left between two turns, and nothing
//! outlives this program.

mod iceoryx;
mod message;
mod pipelined;
mod pools;
mod process;
mod shared;
mod socket;
mod task;
mod zeromq;

use anyhow::bail;
use nearcall_bench::measure::Turn;
use nearcall_bench::order::{Order, carry_out};

fn turn(order: &Order) -> anyhow::Result<Turn> {
    if order.submitters == 0 || order.workers == 0 || order.pipelined == Some(0) {
        bail!("nobody to call, or to answer");
    }
    if order.pace.is_some() {
        bail!("its calls are not paced");
    }
    match order.system.as_str() {
        "multiprocessing.Pool" => pools::turn(order, pools::Pool::Multiprocessing),
        "ProcessPoolExecutor" => pools::turn(order, pools::Pool::Executor),
        "unix socket + msgpack" => socket::turn(order),
        "zeromq ipc" => zeromq::turn(order),
        "iceoryx2, spinning" => iceoryx::turn(order, iceoryx::Wait::Spinning),
        "iceoryx2, blocking" => iceoryx::turn(order, iceoryx::Wait::Blocking),
        _ => bail!("there is no such system here"),
    }
}

fn main() -> anyhow::Result<()> {
    carry_out(turn)
}
