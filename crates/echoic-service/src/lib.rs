//! Messages to replies: upper, echo, greet.
