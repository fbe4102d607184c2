//! Rule conditions.
