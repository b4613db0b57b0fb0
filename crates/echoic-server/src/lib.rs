//! The way of a message: accept, session, recorder, drain. Embeddable in tests.
