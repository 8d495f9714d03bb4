//! Rules 1 to 4: numbers, times and lateness of updates, ticks and samples.

use super::*;

#[test]
fn rule_1_1_every_accepted_input_is_numbered_and_1_2_only_a_consolidated_state_makes_a_revision() {
    check(
        press(""),
        r#"
        at 1s update t=1
        at 1.1s update t=0 late 500ms
        at 1.2s update alarm="open"
        at 1.3s update t=1
        at 1.4s update t=81 alarm="shut"
        at 20s tick
        "#,
        expect![[r#"
            1s         physical 1 device
            1s         state update 1 revision 1 changed [t f] odte 1.00 bound
            1s         lifecycle change 1 revision 1 unbound -> bound heard
            1s         entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            1.1s       physical 2 device stale
            1.2s       physical 3 device
            1.2s       event update 3 revision 1 alarm[0] "open"
            1.3s       physical 4 device
            1.3s       state update 4 revision 2 changed [] odte 1.00 bound
            1.4s       physical 5 device
            1.4s       state update 5 revision 3 changed [t f] odte 1.00 bound
            1.4s       event update 5 revision 3 alarm[0] "shut"
            1.4s       event update 5 revision 3 hot[0] 81
            4s         lifecycle change 3 revision 3 bound -> entangled fresh
            4s         entanglement change 4 revision 3 T 1.000 R 1.000 odte 1.000, 5.0 of 3.0, transport 100ms compute 0ms
            7.250001s  lifecycle change 5 revision 3 entangled -> disentangled stale
            7.250001s  entanglement change 6 revision 3 T 1.000 R 0.800 odte 0.800, 5.0 of 6.3, transport 100ms compute 0ms
            10s        entanglement change 7 revision 3 T 1.000 R 0.556 odte 0.556, 5.0 of 9.0, transport 100ms compute 0ms
            11.400001s lifecycle change 8 revision 3 disentangled -> unbound silent
            11.400001s entanglement change 9 revision 3 T 0.000 R 0.000 odte 0.000, 0.0 of 10.0, nothing in the window
        "#]],
    );
}

#[test]
fn rule_1_2_events_of_one_update_are_numbered_by_name() {
    let definition = twin_type(
        "press",
        r#"{
            "properties": {"t": {"type": "double"}, "e": {"type": "double"}},
            "events": {"hot": {"type": "double"}, "alarm": {"type": "double"}},
            "functions": {"hot": {"threshold": {"of": "t", "above": 80}}},
            "streams": {"a": "1/s"}
        }"#,
    );
    check(
        definition,
        "
        at 1s update t=90 hot=1 alarm=2
        ",
        expect![[r#"
            1s         physical 1 device
            1s         state update 1 revision 1 changed [t] odte 1.00 bound
            1s         event update 1 revision 1 hot[0] 1
            1s         event update 1 revision 1 alarm[0] 2
            1s         event update 1 revision 1 hot[1] 90
            1s         lifecycle change 1 revision 1 unbound -> bound heard
            1s         entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_2_4_ticks_that_are_due_run_before_an_update_with_their_nominal_time() {
    check(
        press(r#""sample": "2s""#),
        "
        at 0.5s quiet update t=1
        at 1s quiet update t=1
        at 8.25s update t=1
        at 8.5s tick
        at 10s tick
        ",
        expect![[r#"
            0.5s       lifecycle change 1 revision 1 unbound -> bound heard
            0.5s       entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            2s         entanglement change 3 revision 2 T 1.000 R 1.000 odte 1.000, 2.0 of 1.5, transport 0ms compute 0ms
            3.5s       lifecycle change 4 revision 2 bound -> disentangled stale
            3.5s       entanglement change 5 revision 2 T 1.000 R 0.667 odte 0.667, 2.0 of 3.0, transport 0ms compute 0ms
            8.25s      physical 3 device
            8.25s      state update 3 revision 3 changed [] odte 0.39 disentangled
            10s        entanglement change 6 revision 3 T 1.000 R 0.316 odte 0.316, 3.0 of 9.5, transport 0ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_2_4_a_tick_and_an_update_of_one_instant_tick_first() {
    check(
        press(r#""sample": "2s", "settle": "2s""#),
        "
        at 0s quiet update t=1
        at 1s quiet update t=1
        at 2s update t=1
        ",
        expect![[r#"
            0s         lifecycle change 1 revision 1 unbound -> bound heard
            0s         entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            2s         lifecycle change 3 revision 2 bound -> entangled fresh
            2s         entanglement change 4 revision 2 T 1.000 R 1.000 odte 1.000, 2.0 of 2.0, transport 0ms compute 0ms
            2s         entanglement change 5 revision 2 T 1.000 R 1.000 odte 1.000, 2.0 of 2.0, transport 0ms compute 0ms
            2s         physical 3 device
            2s         state update 3 revision 3 changed [] odte 1.00 entangled
        "#]],
    );
}

#[test]
fn rule_3_3_a_rejected_time_counts_as_late_and_a_little_ahead_as_on_time() {
    check(
        press(r#""settle": "0s", "sample": "1s""#),
        "
        at 10s update t=1 late -4s
        at 10.1s update t=2 late -5s
        at 11s tick
        at 11.1s update t=3 late -5.1s
        at 11.2s update t=4 late -5.1s arrival
        at 12s tick
        ",
        expect![[r#"
            10s        physical 1 device
            10s        state update 1 revision 1 changed [t f] odte 1.00 entangled
            10s        lifecycle change 1 revision 1 unbound -> bound heard
            10s        entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport -4000ms compute 0ms
            10s        lifecycle change 3 revision 1 bound -> entangled fresh
            10s        entanglement change 4 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport -4000ms compute 0ms
            10.1s      physical 2 device
            10.1s      state update 2 revision 2 changed [t f] odte 1.00 entangled
            11s        entanglement change 5 revision 2 T 1.000 R 1.000 odte 1.000, 2.0 of 1.0, transport -4500ms compute 0ms
            11.1s      physical 3 rejected
            11.1s      state update 3 revision 3 changed [t f] odte 0.67 disentangled
            11.1s      lifecycle change 6 revision 3 entangled -> disentangled stale
            11.1s      entanglement change 7 revision 3 T 0.667 R 1.000 odte 0.667, 3.0 of 1.1, transport -4700ms compute 0ms
            11.2s      physical 4 arrival
            11.2s      state update 4 revision 4 changed [t f] odte 0.75 disentangled
            12s        entanglement change 8 revision 4 T 0.750 R 1.000 odte 0.750, 4.0 of 2.0, transport -4800ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_4_1_lateness_is_transport_and_compute_together() {
    check(
        press(r#""settle": "0s", "sample": "1s""#),
        "
        at 10s quiet update t=1 late 600ms compute 400ms
        at 11s tick
        at 11.1s quiet update t=1 late 600ms compute 401ms
        at 12s tick
        ",
        expect![[r#"
            10s        lifecycle change 1 revision 1 unbound -> bound heard
            10s        entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 600ms compute 400ms
            10s        lifecycle change 3 revision 1 bound -> entangled fresh
            10s        entanglement change 4 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 600ms compute 400ms
            11s        entanglement change 5 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 600ms compute 400ms
            11.1s      lifecycle change 6 revision 2 entangled -> disentangled stale
            11.1s      entanglement change 7 revision 2 T 0.500 R 1.000 odte 0.500, 2.0 of 1.1, transport 600ms compute 400ms
            12s        entanglement change 8 revision 2 T 0.500 R 1.000 odte 0.500, 2.0 of 2.0, transport 600ms compute 400ms
        "#]],
    );
}

#[test]
fn rule_3_6_a_retained_message_initialises_and_is_no_observation() {
    check(
        press(""),
        "
        at 1s update t=1 late 2s retained
        at 2s update t=2 retained
        at 15s tick
        at 15s update t=3
        at 16s update t=4 retained
        at 20s tick
        ",
        expect![[r#"
            1s         physical 1 device unobserved
            1s         state update 1 revision 1 changed [t f] odte 0.00 unbound
            2s         physical 2 device unobserved
            2s         state update 2 revision 2 changed [t f] odte 0.00 unbound
            10s        entanglement change 1 revision 2 T 0.000 R 0.000 odte 0.000, 0.0 of 1.0, nothing in the window
            15s        physical 3 device
            15s        state update 3 revision 3 changed [t f] odte 1.00 bound
            15s        lifecycle change 2 revision 3 unbound -> bound heard
            15s        entanglement change 3 revision 3 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            16s        physical 4 device unobserved
            16s        state update 4 revision 4 changed [t f] odte 1.00 bound
            18s        lifecycle change 4 revision 4 bound -> disentangled stale
            18s        entanglement change 5 revision 4 T 1.000 R 0.333 odte 0.333, 1.0 of 3.0, transport 0ms compute 0ms
            20s        entanglement change 6 revision 4 T 1.000 R 0.200 odte 0.200, 1.0 of 5.0, transport 0ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_4_8_a_silent_twin_decays_at_the_exact_instant_and_is_sampled_while_it_is_updated() {
    check(
        press(r#""unbind_after": "30s""#),
        "
        at 0.5s..24.5s every 1s quiet update t=1 late 20ms
        at 60s tick
        ",
        expect![[r#"
            0.5s       lifecycle change 1 revision 1 unbound -> bound heard
            0.5s       entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 20ms compute 0ms
            3.5s       lifecycle change 3 revision 3 bound -> entangled fresh
            3.5s       entanglement change 4 revision 3 T 1.000 R 1.000 odte 1.000, 3.0 of 3.0, transport 20ms compute 0ms
            10s        entanglement change 5 revision 10 T 1.000 R 1.000 odte 1.000, 10.0 of 9.5, transport 20ms compute 0ms
            20s        entanglement change 6 revision 20 T 1.000 R 1.000 odte 1.000, 10.0 of 10.0, transport 20ms compute 0ms
            27.500001s lifecycle change 7 revision 25 entangled -> disentangled stale
            27.500001s entanglement change 8 revision 25 T 1.000 R 0.700 odte 0.700, 7.0 of 10.0, transport 20ms compute 0ms
            30s        entanglement change 9 revision 25 T 1.000 R 0.500 odte 0.500, 5.0 of 10.0, transport 20ms compute 0ms
            54.500001s lifecycle change 10 revision 25 disentangled -> unbound silent
            54.500001s entanglement change 11 revision 25 T 0.000 R 0.000 odte 0.000, 0.0 of 10.0, nothing in the window
        "#]],
    );
}
