//! The `weft` command: `weft help` tells what it can do.

use std::process::ExitCode;

// A delivery makes some hundred small allocations, in threads that hand them to one another: glibc's
// allocator spends a sixth of its time on them.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    weft::cli::main()
}
