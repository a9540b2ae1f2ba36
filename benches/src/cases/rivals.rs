//! The same Python functions behind what else could be used.

use super::group::{Group, effort};
use super::systems::{Asked, Calls, PLAIN_ATTACH, STATE_KEPT};
use super::throughput::WINDOW;
use crate::engine::Subject;
use crate::ground::Program;
use crate::workload::Workload;

const CASE: &str = "rivals";

const SYSTEMS: [&str; 6] = [
    "multiprocessing.Pool",
    "ProcessPoolExecutor",
    SOCKET,
    "zeromq ipc",
    "iceoryx2, spinning",
    "iceoryx2, blocking",
];

const SOCKET: &str = "unix socket + msgpack";

/// Of every rival.
const WORKERS: usize = 2;

/// Threads that call at the same time.
const SUBMITTERS: [usize; 3] = [1, 4, 16];

pub(super) fn plan() -> Vec<Group> {
    [Workload::BigModel, Workload::Noop].into_iter().flat_map(of).collect()
}

fn of(workload: Workload) -> Vec<Group> {
    let effort = effort(0.5, 3);
    let one = Subject::new(workload);
    let two = Subject { workers: WORKERS, ..one };
    let asked = |system, submitters| Asked {
        system,
        workload: Some(workload),
        submitters: Some(submitters),
        workers: Some(WORKERS),
        pipelined: None,
    };
    let rival = |asked| Group::of_other(CASE, Program::Rivals, asked, effort);
    let in_process = |system, threads| {
        let asked = Asked::in_process(system, workload, threads);
        Group::of_other(CASE, Program::Yardstick, asked, effort)
    };
    // The first row is what all others are compared with.
    let mut groups = vec![Group::of_engine(CASE, one, Calls::By(1), effort)];
    groups.extend(SYSTEMS.map(|system| rival(asked(system, 1))));
    groups.push(rival(Asked { pipelined: Some(WINDOW), ..asked(SOCKET, 1) }));
    for threads in SUBMITTERS {
        groups.push(in_process(STATE_KEPT, threads));
        groups.push(in_process(PLAIN_ATTACH, threads));
    }
    if workload == Workload::BigModel {
        for submitters in SUBMITTERS.into_iter().filter(|submitters| *submitters > 1) {
            groups.push(Group::of_engine(CASE, two, Calls::By(submitters), effort));
            groups.extend(SYSTEMS.map(|system| rival(asked(system, submitters))));
        }
    }
    groups
}
