#!/bin/bash
# Disables each safeguard and runs the test that must fail without it. Exits with 3 if a test does not fail.
set -u
cargo=${CARGO:-cargo}
failed=0

# The command must be built together with the tests: only then can its safeguards be disabled.
$cargo build --quiet --workspace --bin belfry --test safeguards --test store --test kafka --test rules --test http --test network --test kafka_source || exit 1

run() { # safeguard, file or lib, test
    local where=(--test "$2")
    [ "$2" != lib ] || where=(--lib)
    BELFRY_SABOTAGE=$1 timeout 300 $cargo test --quiet --workspace "${where[@]}" -- --exact "$3" --test-threads 1 2>&1
}

try() { # safeguard, file, test
    local output
    output=$(run none "$2" "$3")
    if ! grep -q 'test result: ok. 1 passed' <<<"$output"; then
        printf '%-26s BAD   %s fails with all safeguards enabled:\n%s\n' "$1" "$3" "$output"
        failed=3
        return
    fi
    output=$(run "$1" "$2" "$3")
    if grep -q 'test result: FAILED. 0 passed; 1 failed' <<<"$output"; then
        printf '%-26s red   %s: %s\n' "$1" "$2" "$3"
    else
        printf '%-26s BAD   %s: %s passes without it:\n%s\n' "$1" "$2" "$3" "$output"
        failed=3
    fi
}

try order-lock safeguards a_reader_passes_over_no_entry_whatever_the_order_of_commits
try cache-1 safeguards a_sequence_that_lets_sessions_cache_positions_is_refused
try epoch store postgres::a_checkpoint_never_goes_back_and_only_the_holder_makes_it
try position-compare-and-set store postgres::a_position_moves_only_from_where_it_is_believed_to_be
try topic-id kafka_source stopped::a_topic_that_was_made_anew_while_belfry_was_away_is_not_skipped
try contiguous-prefix lib delivery::relay::in_flight::tests::a_position_is_noted_only_up_to_the_first_entry_that_is_not_acknowledged
try inbox store postgres::an_event_id_is_taken_once
try issued store postgres::a_notification_is_issued_once_whatever_leads_to_it
try seeded-randomness rules hostile_guests::clocks_show_the_events_time_and_randomness_its_id
try look-in-the-log store lost_answer::a_commit_that_the_server_lost_is_repeated_and_not_acknowledged_unseen
try unstorable store refusals::an_event_that_cannot_be_stored_harms_no_other
try sorted-inserts safeguards replicas_that_bring_the_same_ids_do_not_deadlock
try exact-numbers http envelopes::numbers_are_compared_by_their_exact_value
try parked-content store postgres::a_parked_entry_keeps_what_its_sink_needs
try page-bytes store postgres::pages_are_bounded_by_their_bytes
try paused-sink kafka unpark::a_paused_sink_unparks_nothing
try submitted-waits kafka parked::what_a_service_submits_waits_for_its_topic_and_holds_up_no_other
try unpark-expired kafka unpark::a_parked_entry_that_has_expired_is_withheld
try give-way kafka kafka_sink::a_replica_that_cannot_reach_kafka_leaves_the_sink_to_one_that_can
try live-events-first rules hostile_guests::live_events_have_their_instances_whatever_runs_beside_them
try component-digest rules unloadable::a_component_that_was_changed_in_the_database_is_refused_and_what_serves_goes_on
try connections-give-way network slow_clients::half_sent_requests_lock_no_one_out
exit $failed
