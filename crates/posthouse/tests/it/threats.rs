//! The threats from broken peers and attackers. In every row the endpoint stays up, its memory
//! stays bounded, honest peers are served, and one clear reason says what happened.

mod addresses;
mod ends;
mod floods;
mod frames;
mod limits;
mod slowness;
mod unproven;
