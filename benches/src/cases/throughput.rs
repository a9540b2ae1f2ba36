//! As many calls as possible: by many threads, and by one that has many on their way.

use nearcall::WaitPolicy;

use super::group::{Effort, Group, effort};
use super::systems::{Asked, Calls, IN_PROCESS, STATE_KEPT};
use crate::engine::Subject;
use crate::ground::Program;
use crate::workload::Workload;

const CASE: &str = "throughput";

/// Calls that are on their way at once from one thread.
pub(super) const WINDOW: usize = 32;

/// Threads that call at the same time.
const SUBMITTERS: [usize; 4] = [1, 4, 16, 64];

/// The number of threads at which more is measured.
const MANY: usize = 16;

pub(super) fn plan(quick: bool) -> Vec<Group> {
    let effort = if quick { effort(0.2, 5) } else { effort(0.4, 3) };
    let workloads = [Workload::BigModel, Workload::Noop];
    workloads.into_iter().flat_map(|workload| of(workload, quick, effort)).collect()
}

/// What is compared with each other stands side by side.
fn of(workload: Workload, quick: bool, effort: Effort) -> Vec<Group> {
    let nearcall = |policy, workers, calls| {
        let subject = Subject { policy, workers, ..Subject::new(workload) };
        Group::of_engine(CASE, subject, calls, effort)
    };
    let in_process = |system, threads| {
        let asked = Asked::in_process(system, workload, threads);
        Group::of_other(CASE, Program::Yardstick, asked, effort)
    };
    let mut groups = vec![
        nearcall(WaitPolicy::Adaptive, 1, Calls::Pipelined(WINDOW)),
        in_process(IN_PROCESS, 1),
    ];
    for submitters in SUBMITTERS {
        if !quick {
            groups.push(nearcall(WaitPolicy::Adaptive, 1, Calls::By(submitters)));
        }
        // Between 16 and 64 submitters of the engine.
        groups.push(nearcall(WaitPolicy::Adaptive, 2, Calls::By(submitters)));
        if submitters == MANY || !quick && submitters < MANY {
            groups.push(in_process(STATE_KEPT, submitters));
        }
    }
    if !quick {
        for policy in [WaitPolicy::Spin, WaitPolicy::Park] {
            groups.push(nearcall(policy, 2, Calls::By(MANY)));
        }
    }
    groups
}
