//! A record on which the program dies by itself each time (rule 7.8): after the second death it is a
//! dead letter that says so, and everything else goes on.

use super::fleet::{self, Armed, Fleet, SIGABRT};
use super::load::topic;

/// The failpoint that panics whenever an event of one twin is taken: `event.poison:<twin>:panic`.
const NAME: &str = "event.poison";

const TWIN: &str = "poisoned";

#[test]
fn a_record_that_kills_twice_is_quarantined() {
    for processes in [1, 2] {
        check(processes);
    }
}

fn check(processes: usize) {
    let fleet = Fleet::new(processes);
    let (run, load) = fleet.begin(processes as u64);
    load.until_more(200);
    fleet::stop(run);

    // Whichever process owns the twin is the one that dies; the others end with it.
    let arm = |process| Armed { process, failpoint: format!("{NAME}:{TWIN}:panic") };
    let armed: Vec<_> = (0..processes).map(arm).collect();
    fleet.broker.client("poisoner").publish(&topic(TWIN), r#"{"n":1,"all":0}"#);
    for death in ["first", "second"] {
        let ended = fleet::wait(fleet.start(&armed));
        let died = ended.iter().filter(|one| one.signal == Some(SIGABRT));
        assert!(died.count() > 0, "no {death} death: {ended:?}");
        assert!(ended.iter().all(|one| one.code != Some(0)), "{ended:?}");
    }
    let run = fleet.start(&armed);
    let sent = load.finish();
    fleet.until_through(&sent);
    fleet::stop(run);
    // Once quarantined it stays so, also where nothing is armed any more.
    let run = fleet.start(&[]);
    let mut verdict = fleet.end(run, &sent);

    let archive = fleet.site.archive();
    let letters = &archive["dead_letters"];
    let (topics, reasons) = (letters.cells("topic"), letters.cells("reason"));
    assert_eq!(topics, [topic(TWIN).as_str()], "{reasons:?}");
    assert!(reasons[0].as_str().is_some_and(|reason| reason.contains("quarantined")), "{reasons:?}");
    assert_eq!(archive["physical"].count(&[("twin", TWIN)]), 0);
    // To the oracle that letter is the one thing that is wrong.
    assert_eq!(verdict.wrong.len(), 1, "{}", verdict.show());
    verdict.wrong.clear();
    assert!(verdict.is_good(), "{}", verdict.show());
}
