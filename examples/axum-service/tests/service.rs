//! The service as a client sees it, under load and when something goes wrong.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::{Client, Reply, Service, features, kill, score, until};
use nix::sys::signal::Signal;
use tokio::task::{JoinHandle, JoinSet};

/// Each of so many clients asks for so many scores, one after the other. Gives all replies that are no
/// right answer.
async fn load(service: &Service, clients: i64, requests: i64) -> Vec<Reply> {
    let mut loads = JoinSet::new();
    for number in 0..clients {
        let mut client = service.client().await;
        loads.spawn(async move {
            let mut others = Vec::new();
            for request in 0..requests {
                let text = format!("request {request} of client {number}");
                let reply = client.score(features(&text, request)).await;
                if reply.status == 200 {
                    assert_eq!(reply.json(), score(&text, request), "{text}");
                } else {
                    others.push(reply);
                }
            }
            others
        });
    }
    loads.join_all().await.into_iter().flatten().collect()
}

/// A request on its way, which waits at a gate.
async fn at_gate(service: &Service, gate: &str) -> JoinHandle<Reply> {
    let mut client = service.client().await;
    let body = features(gate, 1);
    tokio::spawn(async move { client.score(body).await })
}

fn assert_retry(reply: &Reply, code: &str) {
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(reply.code(), code, "{reply:?}");
    let after = reply.retry_after.as_deref().map(str::parse::<u32>);
    assert!(matches!(after, Some(Ok(1..=60))), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_one_of_many_concurrent_requests_gets_its_own_answer() {
    let Some(service) = Service::start(&[]) else { return };
    let others = load(&service, 64, 50).await;
    assert!(others.is_empty(), "{others:?}");
    service.until_in_use(0).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_beyond_the_slots_is_told_at_once_to_come_again() {
    let Some(service) = Service::start(&[("SLOTS", "2"), ("WORKERS", "1")]) else { return };
    let held = [at_gate(&service, "gate-1").await, at_gate(&service, "gate-2").await];
    service.until_in_use(2).await;
    let refused = load(&service, 16, 5).await;
    assert_eq!(refused.len(), 16 * 5);
    for reply in &refused {
        assert_retry(reply, "full");
    }
    service.write("open");
    for (held, gate) in held.into_iter().zip(["gate-1", "gate-2"]) {
        let reply = held.await.unwrap();
        assert_eq!((reply.status, reply.json()), (200, score(gate, 1)));
    }
    let reply = service.client().await.score(features("later", 1)).await;
    assert_eq!((reply.status, reply.json()), (200, score("later", 1)));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_by_the_deadline_of_its_header_and_no_other_does() {
    let Some(service) = Service::start(&[("MAX_DEADLINE_MS", "2000")]) else { return };
    let mut client = service.client().await;
    let reply = client.score_by(features("gate-1", 1), Some("50")).await;
    assert_eq!((reply.status, reply.code()), (504, "deadline_passed".to_owned()));
    // A longer one than there may be is not waited for.
    let reply = client.score_by(features("gate-2", 1), Some("86400000")).await;
    assert_eq!((reply.status, reply.code()), (504, "deadline_passed".to_owned()));
    for bad in ["", "-1", "1.5", "soon"] {
        let reply = client.score_by(features("text", 1), Some(bad)).await;
        assert_eq!((reply.status, reply.code()), (400, "bad_deadline".to_owned()), "{bad:?}");
    }
    let others = load(&service, 8, 20).await;
    assert!(others.is_empty(), "{others:?}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_takes_its_task_with_it() {
    let Some(service) = Service::start(&[("WORKERS", "1")]) else { return };
    let runs = at_gate(&service, "gate-runs").await;
    let worker = service.pid_at("gate-runs").await;
    let waits = at_gate(&service, "gate-waits").await;
    service.until_in_use(2).await;
    for client in [runs, waits] {
        client.abort();
        assert!(client.await.unwrap_err().is_cancelled());
    }
    // The gates were never opened.
    service.until_in_use(0).await;
    let request = at_gate(&service, "gate-next").await;
    let next = service.pid_at("gate-next").await;
    service.write("open");
    let reply = request.await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_ne!(next, worker, "the call that ran was ended with its worker");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_tell_clients_what_they_can_use_and_no_traceback() {
    let Some(service) = Service::start(&[]) else { return };
    let mut client = service.client().await;
    let reply = client.score(features("text", -1)).await;
    assert_eq!((reply.status, reply.code()), (500, "python".to_owned()));
    assert_eq!(reply.json()["message"], "ValueError: a negative feature");
    assert!(!reply.body.contains("Traceback") && !reply.body.contains(".py"), "{reply:?}");

    let short = r#"{"float_features": [1.5], "str_features": ["a", "b"], "int_feature": 1}"#;
    let reply = client.score(short.to_owned()).await;
    assert_eq!((reply.status, reply.code()), (422, "mismatch".to_owned()));
    assert!(reply.body.contains("float_features"), "{reply:?}");
    for (body, status) in [
        ("not json", 400),
        ("{}", 422),
        (r#"{"float_features": 1, "str_features": ["a", "b"], "int_feature": 1}"#, 422),
        (
            r#"{"float_features": [1, 2, 3], "str_features": ["a", "b"], "int_feature": 1, "x": 1}"#,
            422,
        ),
    ] {
        let reply = client.score(body.to_owned()).await;
        assert_eq!((reply.status, reply.code()), (status, "bad_body".to_owned()), "{body}");
    }
    let reply = client.post(features("text", 1), "text/plain", None).await;
    assert_eq!((reply.status, reply.code()), (415, "bad_body".to_owned()));
    let large = client.score(features(&"x".repeat(3 << 20), 1)).await;
    assert_eq!((large.status, large.code()), (413, "bad_body".to_owned()));
    assert_eq!(service.client().await.get("/nowhere").await.status, 404);

    let reply = service.client().await.score(features("text", 1)).await;
    assert_eq!((reply.status, reply.json()), (200, score("text", 1)));
    service.until_in_use(0).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_under_load_fails_its_own_request_and_no_other() {
    let Some(service) = Service::start(&[]) else { return };
    let victim = at_gate(&service, "gate-1").await;
    let worker = service.pid_at("gate-1").await;
    let (others, reply) = tokio::join!(load(&service, 32, 50), async {
        kill(worker, Signal::SIGKILL);
        victim.await.unwrap()
    });
    assert!(others.is_empty(), "{others:?}");
    assert_eq!((reply.status, reply.code()), (500, "died".to_owned()), "{reply:?}");
    assert!(reply.body.contains("SIGKILL"), "{reply:?}");
    let mut client = service.client().await;
    until("whole again", async || {
        let reply = client.get("/health").await;
        if reply.json()["is_well"] == true { Ok(()) } else { Err(reply.body) }
    })
    .await;
    service.stop().await;
}

/// Waits for this answer to the readiness probe.
async fn until_ready_says(client: &mut Client, status: u16, word: &str) {
    until(word, async || {
        let reply = client.get("/ready").await;
        if (reply.status, &*reply.body) == (status, word) { Ok(()) } else { Err(reply.body) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_workers_is_not_ready_and_says_so_and_is_again_later() {
    let Some(service) = Service::start(&[("WORKERS", "1")]) else { return };
    let mut client = service.client().await;
    until_ready_says(&mut client, 200, "ready").await;
    service.write("broken");
    let victim = at_gate(&service, "gate-1").await;
    kill(service.pid_at("gate-1").await, Signal::SIGKILL);
    assert_eq!(victim.await.unwrap().code(), "died");
    until_ready_says(&mut client, 503, "no worker serves").await;
    // Those that come until it is clear that none can be had are told by their own end.
    let reply = until("unavailable", async || {
        let reply = client.score(features("text", 1)).await;
        if reply.status == 503 { Ok(reply) } else { Err(reply.body) }
    })
    .await;
    assert_retry(&reply, "unavailable");
    assert!(!reply.body.contains("Traceback"), "{reply:?}");
    assert_eq!(client.get("/health").await.status, 200, "a restart of the service would not help");
    service.remove("broken");
    until_ready_says(&mut client, 200, "ready").await;
    let reply = client.score(features("text", 1)).await;
    assert_eq!((reply.status, reply.json()), (200, score("text", 1)));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_takes_the_service_out_of_rotation_drains_it_and_ends_it_with_0() {
    let Some(service) = Service::start(&[("NOTICE_MS", "3000"), ("DRAIN_MS", "60000")]) else {
        return;
    };
    let mut probe = service.client().await;
    until_ready_says(&mut probe, 200, "ready").await;
    let early = at_gate(&service, "gate-early").await;
    service.pid_at("gate-early").await;
    service.signal(Signal::SIGTERM);
    until_ready_says(&mut probe, 503, "leaving").await;
    // Who has not heard of it yet is still served.
    let late = at_gate(&service, "gate-late").await;
    service.pid_at("gate-late").await;
    until("closed", async || match service.try_client().await {
        Err(_) => Ok(()),
        Ok(_) => Err("it still takes connections".to_owned()),
    })
    .await;
    service.write("open");
    for (request, gate) in [(early, "gate-early"), (late, "gate-late")] {
        let reply = request.await.unwrap();
        assert_eq!((reply.status, reply.json()), (200, score(gate, 1)));
    }
    let (status, said) = service.ended().await;
    assert!(status.success(), "{status}: {said}");
    assert_eq!(said, "drained: true, workers killed: 0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_after_sigterm_is_cut_off_at_the_end_of_the_drain() {
    let Some(service) = Service::start(&[("DRAIN_MS", "200")]) else { return };
    let stuck = at_gate(&service, "gate-1").await;
    service.pid_at("gate-1").await;
    service.signal(Signal::SIGTERM);
    let (status, said) = service.ended().await;
    assert!(status.success(), "{status}: {said}");
    assert!(said.contains("workers killed: 1"), "{said}");
    drop(stuck);
}
