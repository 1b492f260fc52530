//! Any bytes, in pieces of any size, are messages or one error; the buffer stays bounded.
#![cfg_attr(feature = "link", no_main)]

use bgp_speaker::wire::{Framer, MAX_EXTENDED_MESSAGE_LEN};
use bytes::BufMut;
use contrail_lb_fuzz::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // The first octet chooses the session; then pieces, each behind an octet with its length.
    let Some((choice, mut rest)) = input.split_first() else { return };
    let mut framer = Framer::default();
    if choice & 1 != 0 {
        framer.extend_messages();
    }
    while let Some((length, tail)) = rest.split_first() {
        let (mut piece, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = tail;
        while !piece.is_empty() {
            let mut space = framer.space();
            let taken = piece.len().min(space.remaining_mut());
            assert!(taken > 0, "the framer always has room");
            space.put_slice(&piece[..taken]);
            drop(space);
            piece = &piece[taken..];
            loop {
                match framer.next_frame() {
                    Ok(Some(frame)) => assert!(frame.body.len() < MAX_EXTENDED_MESSAGE_LEN),
                    Ok(None) => break,
                    Err(error) => {
                        let _ = error.notification().encode();
                        return;
                    }
                }
            }
        }
    }
});
