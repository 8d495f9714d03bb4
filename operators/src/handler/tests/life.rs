//! Rules 4 and 5: what is expected of a twin, and its life.

use super::*;

#[test]
fn rules_5_1_to_5_4_a_full_life() {
    check(
        press(""),
        "
        at 100s quiet update t=1
        at 101s..105s every 1s quiet update t=1
        at 106s..112s every 1s quiet update t=1 late 2s
        at 113s..124s every 1s quiet update t=1
        at 200s tick
        at 200s quiet update t=1
        at 230s tick
        ",
        expect![[r#"
            100s       lifecycle change 1 revision 1 unbound -> bound heard
            100s       entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            103s       lifecycle change 3 revision 3 bound -> entangled fresh
            103s       entanglement change 4 revision 3 T 1.000 R 1.000 odte 1.000, 3.0 of 3.0, transport 0ms compute 0ms
            107s       lifecycle change 5 revision 7 entangled -> disentangled stale
            107s       entanglement change 6 revision 7 T 0.750 R 1.000 odte 0.750, 8.0 of 7.0, transport 500ms compute 0ms
            110s       entanglement change 7 revision 9 T 0.600 R 1.000 odte 0.600, 10.0 of 10.0, transport 800ms compute 0ms
            120s       entanglement change 8 revision 19 T 0.700 R 1.000 odte 0.700, 10.0 of 10.0, transport 600ms compute 0ms
            120.000001s lifecycle change 9 revision 20 disentangled -> entangled fresh
            120.000001s entanglement change 10 revision 20 T 0.800 R 1.000 odte 0.800, 10.0 of 10.0, transport 400ms compute 0ms
            127.000001s lifecycle change 11 revision 24 entangled -> disentangled stale
            127.000001s entanglement change 12 revision 24 T 1.000 R 0.700 odte 0.700, 7.0 of 10.0, transport 0ms compute 0ms
            130s       entanglement change 13 revision 24 T 1.000 R 0.500 odte 0.500, 5.0 of 10.0, transport 0ms compute 0ms
            134.000001s lifecycle change 14 revision 24 disentangled -> unbound silent
            134.000001s entanglement change 15 revision 24 T 0.000 R 0.000 odte 0.000, 0.0 of 10.0, nothing in the window
            200s       lifecycle change 16 revision 25 unbound -> bound heard
            200s       entanglement change 17 revision 25 T 1.000 R 0.100 odte 0.100, 1.0 of 10.0, transport 0ms compute 0ms
            203s       lifecycle change 18 revision 25 bound -> disentangled stale
            203s       entanglement change 19 revision 25 T 1.000 R 0.100 odte 0.100, 1.0 of 10.0, transport 0ms compute 0ms
            210s       entanglement change 20 revision 25 T 1.000 R 0.100 odte 0.100, 1.0 of 10.0, transport 0ms compute 0ms
            210.000001s lifecycle change 21 revision 25 disentangled -> unbound silent
            210.000001s entanglement change 22 revision 25 T 0.000 R 0.000 odte 0.000, 0.0 of 10.0, nothing in the window
        "#]],
    );
}

#[test]
fn rule_5_2_a_twin_that_is_late_from_birth_does_not_stay_bound() {
    check(
        press(""),
        "
        at 0s..5s every 1s quiet update t=1 late 3s
        ",
        expect![[r#"
            0s         lifecycle change 1 revision 1 unbound -> bound heard
            0s         entanglement change 2 revision 1 T 0.000 R 1.000 odte 0.000, 1.0 of 1.0, transport 3000ms compute 0ms
            3s         lifecycle change 3 revision 3 bound -> disentangled stale
            3s         entanglement change 4 revision 3 T 0.000 R 1.000 odte 0.000, 3.0 of 3.0, transport 3000ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_5_3_hysteresis() {
    check(
        press(r#""threshold": 0.7, "hysteresis": 0.2, "settle": "0s", "sample": "60s""#),
        "
        at 0s..9.5s every 0.5s quiet update t=1
        at 10s..13.5s every 0.5s quiet update t=1 late 2s
        at 14s..30s every 0.5s quiet update t=1
        at 30s tick
        ",
        expect![[r#"
            0s         lifecycle change 1 revision 1 unbound -> bound heard
            0s         entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            0s         lifecycle change 3 revision 1 bound -> entangled fresh
            0s         entanglement change 4 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            13s        lifecycle change 5 revision 24 entangled -> disentangled stale
            13s        entanglement change 6 revision 24 T 0.667 R 1.000 odte 0.667, 21.0 of 10.0, transport 667ms compute 0ms
            22.500001s lifecycle change 7 revision 43 disentangled -> entangled fresh
            22.500001s entanglement change 8 revision 43 T 0.900 R 1.000 odte 0.900, 20.0 of 10.0, transport 200ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_5_4_silence_unbinds_when_it_is_longer_and_5_4_binding_again_does_not_clear_the_window() {
    check(
        press(r#""unbind_after": "4s", "settle": "1s""#),
        "
        at 0s..5s every 1s quiet update t=1
        at 9s tick
        at 9.5s tick
        at 9.5s update t=1
        at 10.5s tick
        ",
        expect![[r#"
            0s         lifecycle change 1 revision 1 unbound -> bound heard
            0s         entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            1s         lifecycle change 3 revision 1 bound -> entangled fresh
            1s         entanglement change 4 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            7.500001s  lifecycle change 5 revision 6 entangled -> disentangled stale
            7.500001s  entanglement change 6 revision 6 T 1.000 R 0.800 odte 0.800, 6.0 of 7.5, transport 0ms compute 0ms
            9.000001s  lifecycle change 7 revision 6 disentangled -> unbound silent
            9.000001s  entanglement change 8 revision 6 T 1.000 R 0.667 odte 0.667, 6.0 of 9.0, transport 0ms compute 0ms
            9.5s       physical 7 device
            9.5s       state update 7 revision 7 changed [] odte 0.74 bound
            9.5s       lifecycle change 9 revision 7 unbound -> bound heard
            9.5s       entanglement change 10 revision 7 T 1.000 R 0.737 odte 0.737, 7.0 of 9.5, transport 0ms compute 0ms
            10s        entanglement change 11 revision 7 T 1.000 R 0.700 odte 0.700, 7.0 of 10.0, transport 0ms compute 0ms
            10.5s      lifecycle change 12 revision 7 bound -> disentangled stale
            10.5s      entanglement change 13 revision 7 T 1.000 R 0.600 odte 0.600, 6.0 of 10.0, transport 0ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_5_4_a_lost_source_unbinds_and_5_5_the_event_refers_to_the_incident() {
    check(
        press(r#""settle": "1s""#),
        "
        at 0s..3s every 1s quiet update t=1
        at 3.5s lost 7
        at 3.6s update t=2 compute 200ms
        at 3.7s lost 8
        at 3.8s update t=3
        at 5s tick
        ",
        expect![[r#"
            0s         lifecycle change 1 revision 1 unbound -> bound heard
            0s         entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            1s         lifecycle change 3 revision 1 bound -> entangled fresh
            1s         entanglement change 4 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            3.5s       lifecycle change 5 revision 4 entangled -> unbound source_lost incident 7
            3.5s       entanglement change 6 revision 4 T 1.000 R 1.000 odte 1.000, 4.0 of 3.5, transport 0ms compute 0ms
            3.6s       physical 5 device
            3.6s       state update 5 revision 5 changed [t f] odte 1.00 unbound
            3.8s       physical 6 device
            3.8s       state update 6 revision 6 changed [t f] odte 1.00 bound
            3.8s       lifecycle change 7 revision 6 unbound -> bound heard
            3.8s       entanglement change 8 revision 6 T 1.000 R 1.000 odte 1.000, 6.0 of 3.8, transport 0ms compute 33ms
            4.8s       lifecycle change 9 revision 6 bound -> entangled fresh
            4.8s       entanglement change 10 revision 6 T 1.000 R 1.000 odte 1.000, 6.0 of 4.8, transport 0ms compute 33ms
        "#]],
    );
}

#[test]
fn rule_5_4_a_loss_of_the_past_is_stamped_no_earlier_than_the_twins_last_update() {
    check(
        press(r#""settle": "1s""#),
        "
        at 0s..2s every 1s quiet update t=1
        at 3s quiet update t=1 compute 600ms
        at 2.5s lost 7
        at 60s tick
        ",
        expect![[r#"
            0s         lifecycle change 1 revision 1 unbound -> bound heard
            0s         entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            1s         lifecycle change 3 revision 1 bound -> entangled fresh
            1s         entanglement change 4 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            3s         lifecycle change 5 revision 4 entangled -> unbound source_lost incident 7
            3s         entanglement change 6 revision 4 T 1.000 R 1.000 odte 1.000, 4.0 of 3.0, transport 0ms compute 150ms
            10s        entanglement change 7 revision 4 T 1.000 R 0.400 odte 0.400, 4.0 of 10.0, transport 0ms compute 150ms
        "#]],
    );
}

#[test]
fn rule_4_5_a_twin_with_only_unrated_streams_settles_at_once_and_is_never_unbound_by_silence() {
    check(
        press_with("", r#"{"a": "none"}"#),
        "
        at 0s update t=1
        at 100000s tick
        at 100000s update t=1 late 2s
        at 100005s update t=1
        at 200000s tick
        at 200000s lost 3
        ",
        expect![[r#"
            0s         physical 1 device
            0s         state update 1 revision 1 changed [t f] odte 1.00 entangled
            0s         lifecycle change 1 revision 1 unbound -> bound heard
            0s         entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 0.0, transport 0ms compute 0ms
            0s         lifecycle change 3 revision 1 bound -> entangled fresh
            0s         entanglement change 4 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 0.0, transport 0ms compute 0ms
            10s        entanglement change 5 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 0.0, transport 0ms compute 0ms
            100000s    physical 2 device
            100000s    state update 2 revision 2 changed [] odte 0.00 disentangled
            100000s    lifecycle change 6 revision 2 entangled -> disentangled stale
            100000s    entanglement change 7 revision 2 T 0.000 R 1.000 odte 0.000, 1.0 of 0.0, transport 2000ms compute 0ms
            100005s    physical 3 device
            100005s    state update 3 revision 3 changed [] odte 0.50 disentangled
            100010s    entanglement change 8 revision 3 T 0.500 R 1.000 odte 0.500, 2.0 of 0.0, transport 1000ms compute 0ms
            100010.000001s lifecycle change 9 revision 3 disentangled -> entangled fresh
            100010.000001s entanglement change 10 revision 3 T 1.000 R 1.000 odte 1.000, 1.0 of 0.0, transport 0ms compute 0ms
            200000s    lifecycle change 11 revision 3 entangled -> unbound source_lost incident 3
            200000s    entanglement change 12 revision 3 T 1.000 R 1.000 odte 1.000, 0.0 of 0.0, nothing in the window
        "#]],
    );
}

#[test]
fn rule_4_5_reliability_is_of_the_stream_that_is_missing() {
    check(
        press_with(r#""sample": "60s""#, r#"{"a": "1/s", "b": "1/s"}"#),
        "
        at 0.1s..20.1s every 1s quiet update t=1 stream 0
        at 20.2s..35.2s every 1s quiet update e=1 stream 1
        ",
        expect![[r#"
            0.1s       lifecycle change 1 revision 1 unbound -> bound heard
            0.1s       entanglement change 2 revision 1 T 1.000 R 0.000 odte 0.000, 1.0 of 1.0, transport 0ms compute 0ms
            3.1s       lifecycle change 3 revision 3 bound -> disentangled stale
            3.1s       entanglement change 4 revision 3 T 1.000 R 0.000 odte 0.000, 3.0 of 3.0, transport 0ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_4_4_warm_up_full_judges_a_young_twin_by_the_whole_window() {
    check(
        press(r#""warm_up": "full", "sample": "60s""#),
        "
        at 0s..12s every 1s quiet update t=1
        ",
        expect![[r#"
            0s         lifecycle change 1 revision 1 unbound -> bound heard
            0s         entanglement change 2 revision 1 T 1.000 R 0.100 odte 0.100, 1.0 of 10.0, transport 0ms compute 0ms
            3s         lifecycle change 3 revision 3 bound -> disentangled stale
            3s         entanglement change 4 revision 3 T 1.000 R 0.300 odte 0.300, 3.0 of 10.0, transport 0ms compute 0ms
            7s         lifecycle change 5 revision 8 disentangled -> entangled fresh
            7s         entanglement change 6 revision 8 T 1.000 R 0.800 odte 0.800, 8.0 of 10.0, transport 0ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_5_6_a_twin_that_is_done_is_ticked_no_more() {
    let definition = press("");
    let mut twin = Twin::new(0, &definition);
    let mut recorder = Recorder::default();
    apply("p", &mut twin, &definition, &Update::at(0, &[("t", 1.into())]), false, &mut recorder);
    recorder.lines.clear();
    assert!(twin.life_cycle.retire(1).is_some());
    tick("p", &mut twin, &definition, 9_999_999, &mut recorder);
    assert_eq!(recorder.lines, Vec::<String>::new());
    // The sample of the interval in which it was updated is still owed.
    tick("p", &mut twin, &definition, i64::MAX / 4, &mut recorder);
    assert_eq!(recorder.lines.len(), 1);
    assert_eq!(twin.handled.wake_us, NEVER_US);
}

#[test]
fn rules_4_3_and_5_4_down_lowers_availability_and_not_reliability() {
    check(
        press(r#""threshold": 0.75"#),
        "
        at 0s..10s every 1s quiet update t=1
        at 10.5s down
        at 11s quiet update t=1 late 1s
        at 13.5s up
        at 14s..30s every 1s quiet update t=1
        ",
        expect![[r#"
            0s         lifecycle change 1 revision 1 unbound -> bound heard
            0s         entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            3s         lifecycle change 3 revision 3 bound -> entangled fresh
            3s         entanglement change 4 revision 3 T 1.000 R 1.000 odte 1.000, 3.0 of 3.0, transport 0ms compute 0ms
            10s        entanglement change 5 revision 10 T 1.000 R 1.000 odte 1.000, 10.0 of 10.0, transport 0ms compute 0ms
            10.5s      physical 12 device unobserved
            10.5s      lifecycle change 6 revision 11 entangled -> unbound down
            10.5s      entanglement change 7 revision 11 T 1.000 R 1.000 odte 1.000, 10.0 of 10.0, transport 0ms compute 0ms
            13.5s      physical 14 device unobserved
            13.5s      lifecycle change 8 revision 12 unbound -> bound up
            13.5s      entanglement change 9 revision 12 T 1.000 R 1.000 A 0.700 odte 0.700, 8.0 of 7.0, transport 125ms compute 0ms
            16.5s      lifecycle change 10 revision 15 bound -> disentangled stale
            16.5s      entanglement change 11 revision 15 T 1.000 R 1.000 A 0.700 odte 0.700, 8.0 of 7.0, transport 125ms compute 0ms
            20s        entanglement change 12 revision 18 T 1.000 R 1.000 A 0.700 odte 0.700, 8.0 of 7.0, transport 125ms compute 0ms
            21s        lifecycle change 13 revision 19 disentangled -> entangled fresh
            21s        entanglement change 14 revision 19 T 1.000 R 1.000 A 0.750 odte 0.750, 8.0 of 7.5, transport 125ms compute 0ms
            30s        entanglement change 15 revision 28 T 1.000 R 1.000 odte 1.000, 10.0 of 10.0, transport 0ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_5_1_presence_binds_a_twin_that_says_nothing() {
    check(
        press(""),
        "at 0s down\nat 1s up\nat 2s up\nat 60s tick",
        expect![[r#"
        0s         physical 1 device unobserved
        1s         physical 2 device unobserved
        1s         lifecycle change 1 revision 0 unbound -> bound up
        1s         entanglement change 2 revision 0 T 0.000 R 0.000 odte 0.000, 0.0 of 1.0, nothing in the window
        2s         physical 3 device unobserved
        4s         lifecycle change 3 revision 0 bound -> disentangled stale
        4s         entanglement change 4 revision 0 T 0.000 R 0.000 odte 0.000, 0.0 of 3.0, nothing in the window
        10s        entanglement change 5 revision 0 T 0.000 R 0.000 odte 0.000, 0.0 of 9.0, nothing in the window
        12.000001s lifecycle change 6 revision 0 disentangled -> unbound silent
        12.000001s entanglement change 7 revision 0 T 0.000 R 0.000 odte 0.000, 0.0 of 10.0, nothing in the window
    "#]],
    );
}

#[test]
fn rule_5_4_an_update_after_a_down_binds_again() {
    check(
        press(""),
        "
        at 0s..10s every 1s quiet update t=1
        at 10.5s down
        at 12s..15s every 1s quiet update t=1
        ",
        expect![[r#"
            0s         lifecycle change 1 revision 1 unbound -> bound heard
            0s         entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            3s         lifecycle change 3 revision 3 bound -> entangled fresh
            3s         entanglement change 4 revision 3 T 1.000 R 1.000 odte 1.000, 3.0 of 3.0, transport 0ms compute 0ms
            10s        entanglement change 5 revision 10 T 1.000 R 1.000 odte 1.000, 10.0 of 10.0, transport 0ms compute 0ms
            10.5s      physical 12 device unobserved
            10.5s      lifecycle change 6 revision 11 entangled -> unbound down
            10.5s      entanglement change 7 revision 11 T 1.000 R 1.000 odte 1.000, 10.0 of 10.0, transport 0ms compute 0ms
            12s        lifecycle change 8 revision 12 unbound -> bound heard
            12s        entanglement change 9 revision 12 T 1.000 R 1.000 A 0.850 odte 0.850, 10.0 of 8.5, transport 0ms compute 0ms
            15s        lifecycle change 10 revision 14 bound -> entangled fresh
            15s        entanglement change 11 revision 14 T 1.000 R 1.000 A 0.850 odte 0.850, 9.0 of 8.5, transport 0ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_4_5_a_door_that_reports_on_change_stays_entangled_in_silence() {
    check(
        press_with("", r#"{"door": {"on_change": {"silence_max": "60s"}}}"#),
        "
        at 0s update t=1
        at 59s tick
        at 61s tick
        at 700s tick
        ",
        expect![[r#"
            0s         physical 1 device
            0s         state update 1 revision 1 changed [t f] odte 1.00 bound
            0s         lifecycle change 1 revision 1 unbound -> bound heard
            0s         entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 0.0, transport 0ms compute 0ms
            10s        lifecycle change 3 revision 1 bound -> entangled fresh
            10s        entanglement change 4 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 0.0, transport 0ms compute 0ms
            10s        entanglement change 5 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 0.0, transport 0ms compute 0ms
            60.000001s lifecycle change 6 revision 1 entangled -> disentangled stale
            60.000001s entanglement change 7 revision 1 T 1.000 R 0.000 odte 0.000, 0.0 of 1.0, nothing in the window
            600.000001s lifecycle change 8 revision 1 disentangled -> unbound silent
            600.000001s entanglement change 9 revision 1 T 1.000 R 0.000 odte 0.000, 0.0 of 1.0, nothing in the window
        "#]],
    );
}

#[test]
fn rule_4_5_a_rate_follows_a_property() {
    let definition = twin_type(
        "press",
        r#"{
            "properties": {"t": {"type": "double"}, "period": {"type": "integer", "unit": "ms"}},
            "entanglement": {"window": "10s", "threshold": 0.8, "desired_timeliness": "1s"},
            "streams": {"a": {"period": "period"}}
        }"#,
    );
    check(
        definition,
        "
        at 0s quiet update t=1
        at 1s quiet update period=1000
        at 2s..10s every 1s quiet update t=1
        at 11s quiet update period=5000
        at 16s quiet update t=1
        at 21s quiet update period=500
        at 24s tick
        ",
        expect![[r#"
            0s         lifecycle change 1 revision 1 unbound -> bound heard
            0s         entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 0.0, transport 0ms compute 0ms
            0s         lifecycle change 3 revision 1 bound -> entangled fresh
            0s         entanglement change 4 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 0.0, transport 0ms compute 0ms
            10s        entanglement change 5 revision 10 T 1.000 R 1.000 odte 1.000, 10.0 of 9.0, transport 0ms compute 0ms
            20s        entanglement change 6 revision 13 T 1.000 R 1.000 odte 1.000, 3.0 of 2.8, transport 0ms compute 0ms
            20.000001s lifecycle change 7 revision 13 entangled -> disentangled stale
            20.000001s entanglement change 8 revision 13 T 1.000 R 0.714 odte 0.714, 2.0 of 2.8, transport 0ms compute 0ms
            20.375s    lifecycle change 9 revision 13 disentangled -> entangled fresh
            20.375s    entanglement change 10 revision 13 T 1.000 R 0.800 odte 0.800, 2.0 of 2.5, transport 0ms compute 0ms
            21.277778s lifecycle change 11 revision 14 entangled -> disentangled stale
            21.277778s entanglement change 12 revision 14 T 1.000 R 0.800 odte 0.800, 2.0 of 2.5, transport 0ms compute 0ms
        "#]],
    );
}
