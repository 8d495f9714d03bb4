//! Sources that are lost and come back, and what walks over their twins do.

use super::*;

#[test]
fn rule_5_5_a_lost_source_unbinds_its_twins_in_a_walk() {
    check(
        worker(10),
        "
        at 1s press a b c d
        lost 0 at 2s incident 7
        walk 1
        walk 2
        survey
        ",
        expect![[r#"
            at 1s press a b c d
              01.000 a unbound -> bound heard
              01.000 a bound -> entangled fresh
              01.000 b unbound -> bound heard
              01.000 b bound -> entangled fresh
              01.000 c unbound -> bound heard
              01.000 c bound -> entangled fresh
              01.000 d unbound -> bound heard
              01.000 d bound -> entangled fresh
            lost 0 at 2s incident 7
            walk 1
              02.000 c entangled -> unbound source_lost incident 7
            walk 2
              02.000 a entangled -> unbound source_lost incident 7
              02.000 d entangled -> unbound source_lost incident 7
            survey
              survey 5: 4 twins, by phase [4, 0, 0, 0, 0, 0], 4 events, 0 dead letters, 28 digital events
              02.000 b entangled -> unbound source_lost incident 7
        "#]],
    );
}

#[test]
fn rule_5_4_a_twin_that_is_updated_during_the_walk_is_unbound_first_and_bound_by_what_is_newer() {
    check(
        worker(10),
        "
        at 1s press a b c d
        lost 0 at 2s incident 7
        walk 1
        restored 0
        at 3s press a b c d
        walk 9
        at 3.5s press a b c d
        survey
        ",
        expect![[r#"
            at 1s press a b c d
              01.000 a unbound -> bound heard
              01.000 a bound -> entangled fresh
              01.000 b unbound -> bound heard
              01.000 b bound -> entangled fresh
              01.000 c unbound -> bound heard
              01.000 c bound -> entangled fresh
              01.000 d unbound -> bound heard
              01.000 d bound -> entangled fresh
            lost 0 at 2s incident 7
            walk 1
              02.000 c entangled -> unbound source_lost incident 7
            restored 0
            at 3s press a b c d
              02.000 a entangled -> unbound source_lost incident 7
              03.000 a unbound -> bound heard
              03.000 a bound -> entangled fresh
              02.000 b entangled -> unbound source_lost incident 7
              03.000 b unbound -> bound heard
              03.000 b bound -> entangled fresh
              03.000 c unbound -> bound heard
              03.000 c bound -> entangled fresh
              02.000 d entangled -> unbound source_lost incident 7
              03.000 d unbound -> bound heard
              03.000 d bound -> entangled fresh
            walk 9
            at 3.5s press a b c d
            survey
              survey 5: 4 twins, by phase [0, 0, 4, 0, 0, 0], 12 events, 0 dead letters, 52 digital events
        "#]],
    );
}

#[test]
fn rule_5_4_an_update_that_arrived_before_the_loss_does_not_bind() {
    check(
        worker(10),
        "
        at 1s press a b c
        lost 0 at 2s incident 7
        at 3s press a b c new arrived 1.9s
        walk 9
        at 4s press a arrived 2.1s
        survey
        ",
        expect![[r#"
            at 1s press a b c
              01.000 a unbound -> bound heard
              01.000 a bound -> entangled fresh
              01.000 b unbound -> bound heard
              01.000 b bound -> entangled fresh
              01.000 c unbound -> bound heard
              01.000 c bound -> entangled fresh
            lost 0 at 2s incident 7
            at 3s press a b c new arrived 1.9s
              02.000 a entangled -> unbound source_lost incident 7
              02.000 b entangled -> unbound source_lost incident 7
              02.000 c entangled -> unbound source_lost incident 7
            walk 9
            at 4s press a arrived 2.1s
              04.000 a unbound -> bound heard
              04.000 a bound -> disentangled stale
            survey
              survey 5: 4 twins, by phase [3, 0, 0, 1, 0, 0], 8 events, 0 dead letters, 30 digital events
        "#]],
    );
}

#[test]
fn rule_5_4_a_twin_that_took_a_backlog_before_the_news_of_the_loss_came_is_unbound() {
    check(
        worker(10),
        "
        at 1s press a b
        at 3s press a arrived 1.9s
        lost 0 at 2s incident 7
        walk 9
        survey
        ",
        expect![[r#"
            at 1s press a b
              01.000 a unbound -> bound heard
              01.000 a bound -> entangled fresh
              01.000 b unbound -> bound heard
              01.000 b bound -> entangled fresh
            at 3s press a arrived 1.9s
              03.000 a entangled -> disentangled stale
            lost 0 at 2s incident 7
            walk 9
              03.000 a disentangled -> unbound source_lost incident 7
              02.000 b entangled -> unbound source_lost incident 7
            survey
              survey 5: 2 twins, by phase [2, 0, 0, 0, 0, 0], 3 events, 0 dead letters, 17 digital events
        "#]],
    );
}

#[test]
fn rule_5_4_a_twin_that_was_heard_after_the_loss_before_the_news_of_it_came_stays_bound() {
    check(
        worker(10),
        "
        at 1s press a b
        at 3s press a arrived 2.5s
        lost 0 at 2s incident 7
        restored 0
        walk 9
        survey
        ",
        expect![[r#"
            at 1s press a b
              01.000 a unbound -> bound heard
              01.000 a bound -> entangled fresh
              01.000 b unbound -> bound heard
              01.000 b bound -> entangled fresh
            at 3s press a arrived 2.5s
            lost 0 at 2s incident 7
            restored 0
            walk 9
              02.000 b entangled -> unbound source_lost incident 7
            survey
              survey 5: 2 twins, by phase [1, 0, 1, 0, 0, 0], 3 events, 0 dead letters, 13 digital events
        "#]],
    );
}

#[test]
fn rule_5_4_only_the_loss_of_all_its_sources_unbinds_a_twin() {
    check(
        worker(10),
        "
        at 1s pump p
        at 1s press a
        lost 1 at 2s incident 7
        lost 0 at 3s incident 8
        at 4s pump p arrived 3.5s stream 1
        walk 9
        restored 0
        lost 0 at 5s incident 9
        walk 9
        survey
        ",
        expect![[r#"
            at 1s pump p
              01.000 p unbound -> bound heard
              01.000 p bound -> entangled fresh
            at 1s press a
              01.000 a unbound -> bound heard
              01.000 a bound -> entangled fresh
            lost 1 at 2s incident 7
            lost 0 at 3s incident 8
            at 4s pump p arrived 3.5s stream 1
              03.000 p entangled -> unbound source_lost incident 8
              04.000 p unbound -> bound heard
              04.000 p bound -> entangled fresh
            walk 9
              03.000 a entangled -> unbound source_lost incident 8
            restored 0
            lost 0 at 5s incident 9
            walk 9
              05.000 p entangled -> unbound source_lost incident 9
            survey
              survey 5: 2 twins, by phase [2, 0, 0, 0, 0, 0], 3 events, 0 dead letters, 21 digital events
        "#]],
    );
}

#[test]
fn rule_5_5_two_losses_in_a_row_are_walked_one_after_the_other() {
    check(
        worker(10),
        "
        at 1s press a b c d
        lost 0 at 2s incident 7
        walk 1
        restored 0
        at 3s press a b c d
        lost 0 at 4s incident 8
        at 5s press a b
        walk 9
        walk 9
        survey
        ",
        expect![[r#"
            at 1s press a b c d
              01.000 a unbound -> bound heard
              01.000 a bound -> entangled fresh
              01.000 b unbound -> bound heard
              01.000 b bound -> entangled fresh
              01.000 c unbound -> bound heard
              01.000 c bound -> entangled fresh
              01.000 d unbound -> bound heard
              01.000 d bound -> entangled fresh
            lost 0 at 2s incident 7
            walk 1
              02.000 c entangled -> unbound source_lost incident 7
            restored 0
            at 3s press a b c d
              02.000 a entangled -> unbound source_lost incident 7
              03.000 a unbound -> bound heard
              03.000 a bound -> entangled fresh
              02.000 b entangled -> unbound source_lost incident 7
              03.000 b unbound -> bound heard
              03.000 b bound -> entangled fresh
              03.000 c unbound -> bound heard
              03.000 c bound -> entangled fresh
              02.000 d entangled -> unbound source_lost incident 7
              03.000 d unbound -> bound heard
              03.000 d bound -> entangled fresh
            lost 0 at 4s incident 8
            at 5s press a b
              04.000 a entangled -> unbound source_lost incident 8
              05.000 a unbound -> bound heard
              05.000 a bound -> entangled fresh
              04.000 b entangled -> unbound source_lost incident 8
              05.000 b unbound -> bound heard
              05.000 b bound -> entangled fresh
            walk 9
            walk 9
              04.000 c entangled -> unbound source_lost incident 8
              04.000 d entangled -> unbound source_lost incident 8
            survey
              survey 5: 4 twins, by phase [2, 0, 2, 0, 0, 0], 10 events, 0 dead letters, 66 digital events
        "#]],
    );
}
