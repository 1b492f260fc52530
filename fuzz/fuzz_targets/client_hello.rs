//! Any bytes are a ClientHello, the beginning of one, or neither; and what was said of a part holds for the whole.
#![cfg_attr(feature = "link", no_main)]

use contrail_lb_fuzz::fuzz_target;
use lb_core::hello::{Hello, LONGEST_HELLO, read_hello};

fuzz_target!(|input: &[u8]| {
    let input = &input[..input.len().min(LONGEST_HELLO - 1)];
    let whole = read_hello(input);
    if let Hello::Name(name) = &whole {
        assert!(!name.is_empty() && name.is_ascii() && *name == name.to_ascii_lowercase());
    }
    let mut decided = false;
    for length in 0..input.len().min(1024) {
        match read_hello(&input[..length]) {
            Hello::Incomplete => assert!(!decided),
            early => {
                decided = true;
                assert_eq!(early, whole);
            }
        }
    }
});
