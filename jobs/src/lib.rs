//! What a user submits.
