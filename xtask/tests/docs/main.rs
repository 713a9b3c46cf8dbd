//! The documentation, held together: links and anchors lead somewhere, paths named in code exist, and the
//! reference says what the code says.

mod links;
mod markdown;
mod openapi;
mod reference;
