//! The contract of the completion port: one list of tests, run on every backend in both layouts.
//!
//! A test takes a [`Harness`]: a port with workers that do what the test tells them. It uses
//! nothing but the crate's public interface, so a backend joins with one line at the end of this
//! file.

#![allow(unreachable_pub, reason = "a test program has no interface; `pub` is between its files")]

#[path = "contract/connecting.rs"]
mod connecting;
#[path = "contract/driver.rs"]
mod driver;
#[path = "contract/ending.rs"]
mod ending;
#[cfg(any(target_os = "linux", windows))]
#[path = "contract/files.rs"]
mod files;
#[cfg(target_os = "linux")]
#[path = "contract/files_linux.rs"]
mod files_linux;
#[cfg(target_os = "linux")]
#[path = "contract/files_planted.rs"]
mod files_planted;
#[cfg(windows)]
#[path = "contract/files_windows.rs"]
mod files_windows;
#[path = "contract/flow.rs"]
mod flow;
#[path = "contract/harness.rs"]
mod harness;
#[cfg(windows)]
#[path = "contract/iocp.rs"]
mod iocp_only;
#[cfg(target_os = "linux")]
#[path = "contract/linux.rs"]
mod linux;
#[path = "contract/load.rs"]
mod load;
#[cfg(windows)]
#[path = "shared/log.rs"]
mod log;
#[path = "contract/names.rs"]
mod names;
#[cfg(target_os = "linux")]
#[path = "contract/namespace.rs"]
mod namespace;
#[cfg(target_os = "linux")]
#[path = "contract/own_process.rs"]
mod own_process;
#[cfg(any(target_os = "linux", windows))]
#[path = "contract/real.rs"]
mod real;
#[path = "contract/receiving.rs"]
mod receiving;
#[cfg(any(target_os = "linux", windows))]
#[path = "contract/sendfile.rs"]
mod sendfile;
#[path = "contract/sending.rs"]
mod sending;
#[cfg(any(target_os = "linux", windows))]
#[path = "contract/test_dir.rs"]
mod test_dir;
#[cfg(target_os = "linux")]
#[path = "contract/uring.rs"]
mod uring_only;
#[path = "contract/waking.rs"]
mod waking;
#[path = "contract/watching.rs"]
mod watching;

use posthouse_io::sim::{Faults, Network};
use posthouse_io::{Backend, Layout};

use harness::Harness;

/// The list, made into the tests of one backend: `$run` is given each in turn.
macro_rules! contract {
    ($backend:ident: $run:expr) => {
        mod $backend {
            use super::*;

            contract! { @tests $run;
                connecting {
                    an_accepted_peer_has_the_address_of_the_connecting_end
                    a_connect_to_where_nobody_listens_is_refused
                    a_socket_that_never_connected_fails_what_is_submitted_on_it
                    a_connect_that_is_cancelled_ends_once
                    a_reset_ends_a_connect
                    peers_that_come_while_nobody_accepts_are_accepted_later
                    many_peers_at_once_are_all_accepted
                    a_refused_peer_sees_a_reset_and_a_dropped_one_the_end
                    a_closed_listener_makes_room_for_another_at_its_address
                }
                receiving {
                    a_stream_of_receives_brings_every_byte_and_then_the_end
                    a_single_receive_brings_one_buffer_and_no_more
                    pending_receives_get_the_bytes_in_the_order_of_their_submission
                    the_end_reaches_every_pending_receive_and_every_later_one
                    cancelled_receives_leave_the_bytes_to_the_next
                    all_pending_receives_are_cancelled_each_once
                    a_cancel_amid_traffic_loses_no_byte
                    a_buffer_dropped_on_another_thread_comes_back
                    a_recycled_buffer_is_used_again
                }
                sending {
                    what_was_sent_says_how_much_and_gives_the_memory_back
                    segments_leave_in_their_order_however_many_there_are
                    a_send_waits_for_a_peer_that_does_not_read_and_goes_on_when_it_does
                    cancelling_receives_leaves_a_pending_send_alone
                    a_reset_of_ones_own_ends_a_pending_send_and_pending_receives
                    a_reset_by_the_peer_ends_a_pending_send_and_pending_receives
                }
                ending {
                    a_shutdown_is_seen_as_the_end_after_all_bytes
                    a_last_byte_and_the_end_in_one_breath_are_both_told
                    a_half_closed_connection_still_carries_the_reply
                    nothing_can_be_sent_after_a_shutdown
                    a_reset_with_reads_pending_is_told_once
                    a_reset_is_a_reset_for_whatever_is_submitted_after_it
                    a_reset_that_a_send_meets_first_is_a_reset_for_the_reads_too
                    a_send_to_a_peer_that_is_gone_fails_with_a_reset
                    bytes_before_a_reset_are_a_beginning_of_what_was_sent
                    a_peer_that_closes_with_bytes_unread_is_not_silent
                    a_connection_in_the_slot_of_another_gets_only_its_own
                }
                waking {
                    a_wake_is_not_lost_whether_the_worker_sleeps_runs_or_goes_to_sleep
                    workers_wake_each_other
                    a_sleep_ends_when_its_time_is_over_and_not_before
                    a_step_gets_its_share_and_the_rest_comes_in_the_next_without_sleep
                    background_workers_are_woken_and_sleep_their_time
                    random_numbers_differ
                }
                watching {
                    a_watch_sees_a_reset
                    a_watch_sees_a_reset_behind_bytes
                    a_watch_sees_the_end_and_leaves_the_bytes_before_it
                    a_watch_sees_an_end_without_bytes
                    a_watch_for_failures_waits_behind_the_end
                    a_watch_behind_the_end_lets_its_lane_sleep
                    a_cancelled_watch_ends_once_and_has_taken_no_byte
                    what_happens_while_a_watch_is_cancelled_is_told_to_the_next_receive
                    a_reset_of_ones_own_ends_a_watch
                    a_reset_that_a_send_meets_is_a_reset_for_the_watch_too
                    a_reset_ends_a_waiting_send_and_a_watch
                    a_watch_of_a_socket_that_never_connected_fails
                    watches_and_receives_take_turns_and_no_byte_is_lost
                }
                names {
                    an_address_needs_no_look_up
                    localhost_is_this_machine
                    a_name_that_does_not_exist_is_not_found
                    many_look_ups_at_once_all_end
                    a_cancelled_look_up_ends_once
                }
                load {
                    some_megabytes_go_both_ways_unchanged
                    the_order_holds_with_several_receives_pending_and_several_workers
                    steps_that_take_one_completion_and_sleep_leave_nothing_behind
                }
            }
        }
    };
    (@tests $run:expr; $($area:ident { $($test:ident)+ })+) => {
        $($(
            #[test]
            fn $test() {
                $run($area::$test);
            }
        )+)+
    };
}

/// The list of those on files.
#[cfg(any(target_os = "linux", windows))]
macro_rules! contract_of_files {
    ($backend:ident: $run:expr) => {
        mod $backend {
            use super::*;

            contract! { @tests $run;
                files {
                    a_file_is_read_back_in_pieces_to_its_end
                    a_read_gives_the_memory_back_with_nothing_else_in_it
                    a_file_keeps_its_identity_and_another_one_has_another
                    a_part_is_written_in_pieces_and_published_whole
                    what_is_known_of_a_file_is_what_was_said_when_it_was_published
                    a_directory_is_made_once_and_found_and_counted_while_it_is_empty
                    a_name_is_given_once_and_never_replaced
                    of_two_that_want_a_name_at_once_one_gets_it
                    many_that_make_the_same_directories_all_succeed
                    a_part_is_its_holders_until_the_last_handle_is_dropped
                    a_part_of_which_several_want_to_be_the_holder_has_one
                    holders_of_one_name_follow_each_other_and_each_publishes_its_own
                    a_part_is_cut_and_goes_on_from_there
                    a_name_is_brought_to_the_disk_while_it_leads_to_the_file
                    a_part_is_removed_by_its_own_file_only
                    a_part_that_was_published_is_not_written_to_again
                    parts_that_nobody_holds_expire
                    parts_that_nobody_holds_give_way_the_oldest_first
                    what_is_not_there_is_not_found
                    a_list_is_in_the_order_of_whole_paths
                    everything_that_lies_beneath_is_counted
                    many_operations_at_once_all_end
                    two_ports_of_one_directory_lock_each_other_out
                    a_directory_is_named_by_its_clones_whatever_becomes_of_its_path
                }
                sendfile {
                    files_leave_in_their_place_between_memory
                    parts_of_a_file_begin_and_end_anywhere
                    more_of_a_file_is_sent_than_31_bits_count
                    zeros_leave_in_place_of_what_a_file_does_not_have
                    a_file_that_is_cut_while_it_is_sent_is_made_up_with_zeros
                    a_file_waits_for_a_peer_that_does_not_read
                    a_send_of_a_file_is_cancelled_and_reset
                    a_reset_by_the_peer_ends_the_send_of_a_file
                    a_watch_beside_a_cancelled_send_of_a_file_sees_the_end
                    one_file_goes_to_many_at_once
                }
            }
        }
    };
}

type Test = fn(&Harness);

/// Runs a test on a real system.
fn real(backend: &Backend, layout: Layout, io_workers: usize, test: Test) {
    if !harness::is_here(backend) {
        return;
    }
    let harness = Harness::new(backend.clone(), layout, io_workers);
    test(&harness);
    harness.finish();
}

/// The same with receives that have memory from the beginning on, and that memory on pages of its
/// own.
#[cfg(windows)]
fn pending(backend: &Backend, layout: Layout, io_workers: usize, test: Test) {
    let harness = Harness::pending(backend.clone(), layout, io_workers);
    test(&harness);
    harness.finish();
}

/// The same with every buffer on pages of its own that nobody may touch once it is released: not
/// even the kernel, whose late write no other tool notices.
#[cfg(target_os = "linux")]
fn guarded(backend: &Backend, layout: Layout, io_workers: usize, test: Test) {
    if !harness::is_here(backend) {
        return;
    }
    let harness = Harness::guarded(backend.clone(), layout, io_workers);
    test(&harness);
    harness.finish();
}

/// Runs a test in simulated networks: half of them as networks are, half of them strange.
fn simulated(layout: Layout, io_workers: usize, test: Test) {
    for seed in 0..20 {
        let faults = match seed % 2 {
            0 => Faults::typical(),
            // What passes by itself is for the framework to outlast; here it would hide what a
            // test looks at.
            _ => Faults {
                receive_no_buffers_ppm: 0,
                no_descriptors_ppm: 0,
                ..Faults::from_seed(seed).without_losses()
            },
        };
        let _told = TellSeed(seed);
        let network = Network::with(seed, faults);
        let harness = Harness::new(Backend::Simulation(network), layout, io_workers);
        test(&harness);
        harness.finish();
    }
}

/// Names the seed of a test that fails.
struct TellSeed(u64);

impl Drop for TellSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in the simulated network of seed {}", self.0);
        }
    }
}

#[cfg(target_os = "linux")]
contract!(uring: |test| real(&Backend::Uring, Layout::Pinned, 3, test));
#[cfg(target_os = "linux")]
contract!(uring_guarded: |test| guarded(&Backend::Uring, Layout::Pinned, 3, test));
#[cfg(target_os = "linux")]
contract!(readiness_guarded: |test| guarded(&Backend::Readiness, Layout::Shared, 4, test));
#[cfg(target_os = "linux")]
contract!(readiness_pinned: |test| real(&Backend::Readiness, Layout::Pinned, 3, test));
#[cfg(target_os = "linux")]
contract!(readiness_shared: |test| real(&Backend::Readiness, Layout::Shared, 4, test));
#[cfg(windows)]
contract!(iocp_shared: |test| real(&Backend::Iocp, Layout::Shared, 4, test));
#[cfg(windows)]
contract!(iocp_pinned: |test| real(&Backend::Iocp, Layout::Pinned, 3, test));
#[cfg(windows)]
contract!(iocp_pending: |test| pending(&Backend::Iocp, Layout::Shared, 4, test));
contract!(simulation_pinned: |test| simulated(Layout::Pinned, 3, test));
contract!(simulation_shared: |test| simulated(Layout::Shared, 4, test));

#[cfg(target_os = "linux")]
contract_of_files!(files_uring: |test| real(&Backend::Uring, Layout::Pinned, 3, test));
#[cfg(target_os = "linux")]
contract_of_files!(files_pinned: |test| real(&Backend::Readiness, Layout::Pinned, 3, test));
#[cfg(target_os = "linux")]
contract_of_files!(files_shared: |test| real(&Backend::Readiness, Layout::Shared, 4, test));
#[cfg(windows)]
contract_of_files!(files_iocp_shared: |test| real(&Backend::Iocp, Layout::Shared, 4, test));
#[cfg(windows)]
contract_of_files!(files_iocp_pinned: |test| real(&Backend::Iocp, Layout::Pinned, 3, test));
