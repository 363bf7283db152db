//! Empty: this package only pins lapin.
