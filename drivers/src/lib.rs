//! Field drivers. One `bus` task owns one line.
