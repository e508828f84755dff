//! What must hold after any crash, checked from outside: by `likectl` alone.

use serde_json::Value;

use crate::house::House;

/// Finishes what is left, and insists that everything has ended and every count agrees with its records.
///
/// # Panics
/// A promise is broken.
#[track_caller]
pub fn kept(house: &House) {
    house.likectl(&["recover", "--json", "--timeout", "30s"]).expect_code(0);
    every_saga_has_ended(house);
    no_drift(house);
}

/// Every saga on record is completed or compensated.
///
/// # Panics
/// One is not.
#[track_caller]
pub fn every_saga_has_ended(house: &House) {
    let sagas = house.json(&["saga", "list"]);
    for saga in sagas.as_array().expect("a list") {
        let state = saga["state"].as_str().expect("a state");
        assert!(matches!(state, "completed" | "compensated"), "not ended: {saga}");
    }
}

/// No saga is unfinished or waits to be settled, and no daemon holds anything for one. For logs of any length.
///
/// # Panics
/// Something is left.
#[track_caller]
pub fn nothing_is_left(house: &House) {
    let status = house.json(&["status"]);
    let log = &status["log"];
    let left = ["unfinished", "unsettled", "needs_attention", "hanging"];
    assert!(left.iter().all(|what| log[what] == 0), "{log}");
    let states = log["by_state"].as_object().expect("sagas by state");
    assert!(states.keys().all(|state| state == "completed" || state == "compensated"), "{log}");
    for service in status["services"].as_array().expect("a list") {
        assert_eq!(service["unsettled"], 0, "{service}");
    }
}

/// Likes are like records, nothing is unfinished, and no daemon holds a lock for anybody.
///
/// # Panics
/// An article has drifted, or something is left.
#[track_caller]
pub fn no_drift(house: &House) {
    let audit = house.json(&["audit"]);
    assert_eq!(audit["drift"], Value::Array(Vec::new()), "{audit}");
    assert_eq!(audit["unfinished_sagas"], 0, "{audit}");
}

/// How often a user likes an article, by the records: once or not at all.
///
/// # Panics
/// More than once.
#[track_caller]
pub fn likes_at_most_once(house: &House, user: u64, article: u64) -> bool {
    let likes = house.json(&["user", "likes", &user.to_string()]);
    let of_it: Vec<_> =
        likes.as_array().expect("a list").iter().filter(|like| like["article_id"] == article).collect();
    assert!(of_it.len() <= 1, "liked more than once: {of_it:?}");
    of_it.len() == 1
}
