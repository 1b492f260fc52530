//! Reading `status --json` and `bgp --json`: the one place that knows their field names.
