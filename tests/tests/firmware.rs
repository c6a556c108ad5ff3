//! Whole lives of a card in a Raspberry Pi whose firmware is played as documented ([`tidegate_tests::firmware`]): the project's scripts make the card, and the real
//! boot loader backend decides on it.

#[path = "firmware/any_order.rs"]
mod any_order;
#[path = "firmware/board.rs"]
mod board;
#[path = "firmware/cuts.rs"]
mod cuts;
#[path = "firmware/life.rs"]
mod life;
#[path = "firmware/lives.rs"]
mod lives;
#[path = "firmware/rules.rs"]
mod rules;
