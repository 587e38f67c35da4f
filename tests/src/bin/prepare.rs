//! Has everything at hand that the tests start: the control plane's programs, Redis, LangGraph.
//!
//! Builds or installs what is missing, with progress; ends with 1 and a sentence that names what
//! to install when it may not. Run again it does nothing.

use anyhow::Result;
use kanarie_fakes::redis_server;
use kanarie_tests::langgraph;
use kanarie_tests::tools::{self, Tool};

fn main() -> Result<()> {
    for tool in Tool::ALL {
        tools::find(tool)?;
    }
    redis_server::program()?;
    langgraph::environment()?;
    Ok(())
}
