//! Any text is a configuration or a list of problems, and what is a configuration survives its long form.
#![cfg_attr(feature = "link", no_main)]

use contrail_lb_fuzz::fuzz_target;

fuzz_target!(|text: &str| {
    match config::parse(text, "fuzz") {
        Ok(loaded) => {
            let long = config::expand(&loaded.config);
            let again =
                config::parse(&long, "expanded").unwrap_or_else(|p| panic!("{}\n{long}", p.render(false)));
            assert_eq!(again.config, loaded.config);
        }
        Err(problems) => {
            assert!(problems.has_errors());
            let _ = (problems.render(true), problems.to_json());
        }
    }
});
