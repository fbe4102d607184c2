//! The `weft` command: `weft help` tells what it can do.

use std::process::ExitCode;

fn main() -> ExitCode {
    weft::cli::main()
}
