//! Any octets are an agent's reply or an error that is short and safe to print; only the first line matters.
#![cfg_attr(feature = "link", no_main)]

use contrail_lb_fuzz::fuzz_target;
use health::Reply;

fuzz_target!(|bytes: &[u8]| {
    let reply = Reply::parse(bytes);
    if let Err(error) = &reply {
        let words = error.to_string();
        assert!(words.len() < 500 && !words.contains(char::is_control), "{words:?}");
    }
    let more = [bytes, b"\ndown maint 0%\n"].concat();
    assert_eq!(Reply::parse(&more), reply);
});
