//! What happens to a call when one thing grows and all else stays as it is.

use super::group::{Group, effort};
use super::systems::{Asked, Calls, IN_PROCESS};
use crate::engine::Subject;
use crate::ground::Program;
use crate::workload::Workload;

const CASE: &str = "growth";

const SLOTS: [usize; 4] = [64, 1_024, 16_384, 65_535];

/// The last one is close to what a slot can hold.
const PAYLOADS: [usize; 7] = [64, 256, 1 << 10, 4 << 10, 64 << 10, 1 << 20, 15 << 20];

const WORKERS: [usize; 5] = [1, 2, 4, 8, 16];

pub(super) fn plan() -> Vec<Group> {
    let usual = effort(0.4, 3);
    let mut groups = Vec::new();
    for slots in SLOTS {
        // Small slots, or the largest number of them would not fit into the memory of many
        // machines.
        let subject = Subject { slots, slot_bytes: 256, ..Subject::new(Workload::Noop) };
        // A ratio close to 1 is wanted of them.
        groups.push(Group::of_engine(CASE, subject, Calls::By(1), effort(0.4, 5)));
    }
    for bytes in PAYLOADS {
        let workload = Workload::Echo(bytes);
        // Room for the length in front of it. A few slots: the largest ones take 16 MiB each.
        let slot_bytes = (bytes + 64).next_multiple_of(64).max(256);
        let subject = Subject { slots: 4, slot_bytes, ..Subject::new(workload) };
        groups.push(Group::of_engine(CASE, subject, Calls::By(1), usual));
        let asked = Asked::in_process(IN_PROCESS, workload, 1);
        groups.push(Group::of_other(CASE, Program::Yardstick, asked, usual));
    }
    for workers in WORKERS {
        let subject = Subject { workers, ..Subject::new(Workload::BigModel) };
        groups.push(Group::of_engine(CASE, subject, Calls::By(16), usual));
    }
    groups
}
