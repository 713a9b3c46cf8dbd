//! Policy and inventory → tables for one node.
