#!/bin/bash
# Each safeguard, and the test that fails without it. Ends with 3 if one does not.
set -u
cargo=${CARGO:-cargo}
failed=0

# The command must be built with the tests: only then can its safeguards be switched off.
$cargo build --quiet --workspace --bin belfry --test safeguards --test store --test hostile_guests --test kafka_source || exit 1

run() { # safeguard, file, test
    BELFRY_SABOTAGE=$1 timeout 300 $cargo test --quiet --workspace --test "$2" -- --exact "$3" --test-threads 1 2>&1
}

try() { # safeguard, file, test
    local output
    output=$(run none "$2" "$3")
    if ! grep -q 'test result: ok. 1 passed' <<<"$output"; then
        printf '%-26s BAD   %s fails with all safeguards on:\n%s\n' "$1" "$3" "$output"
        failed=3
        return
    fi
    output=$(run "$1" "$2" "$3")
    if grep -q 'test result: FAILED. 0 passed; 1 failed' <<<"$output"; then
        printf '%-26s red   %s: %s\n' "$1" "$2" "$3"
    else
        printf '%-26s BAD   %s: %s stays green without it:\n%s\n' "$1" "$2" "$3" "$output"
        failed=3
    fi
}

try order-lock safeguards a_reader_passes_over_no_entry_whatever_the_order_of_commits
try cache-1 safeguards a_sequence_that_lets_sessions_cache_positions_is_refused
try epoch store postgres::a_checkpoint_never_goes_back_and_only_the_holder_makes_it
try position-compare-and-set store postgres::a_position_moves_only_from_where_it_is_believed_to_be
try topic-id kafka_source stopped::a_topic_that_was_made_anew_while_belfry_was_away_is_not_skipped
try contiguous-prefix safeguards a_position_is_noted_only_up_to_the_first_entry_that_is_not_acknowledged
try inbox store postgres::an_event_id_is_taken_once
try issued store postgres::a_notification_is_issued_once_whatever_leads_to_it
try seeded-randomness hostile_guests clocks_show_the_events_time_and_randomness_its_id
try sorted-inserts safeguards replicas_that_bring_the_same_ids_do_not_deadlock
exit $failed
