//! A short search. `cargo threads` makes long ones.

use like_threads::search::World;

#[test]
fn threads_that_share_a_saga_log_are_told_the_truth_and_none_waits_for_ever() {
    assert_eq!(World::Log.first_broken(0..40), None, "cargo threads --world log --seed ...");
}

#[test]
fn a_store_is_what_its_writer_made_it_whatever_goes_on_beside_it() {
    assert_eq!(World::Store.first_broken(0..40), None, "cargo threads --world store --seed ...");
}

#[test]
fn a_seed_repeats_exactly() {
    assert!([World::Log, World::Store].into_iter().all(|world| (0..2).all(|seed| world.repeats(seed))));
}
