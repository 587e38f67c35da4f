//! `kanarie-gateway erase`: everything that is kept of one customer of a channel goes.
//!
//! Takes the customer's address or the digits of the conversation, asks the admin port of a running gateway,
//! prints what there was. Never prints the customer.

use clap::Args;

use crate::admin::erase::PATH;
use crate::admin::told::{CustomerErased, EraseRequest};
use crate::commands::control_port::{ControlPort, Output, PortFlags, print_json};
use crate::config::Flags;

/// Whom to erase.
#[derive(Args, Debug)]
pub struct EraseCommand {
    /// The customer as Twilio names him: whatsapp:+31612345678, the number alone, or whatsapp:US.…
    #[arg(
        long,
        value_name = "ADDRESS",
        requires = "channel",
        required_unless_present = "conversation"
    )]
    pub customer: Option<String>,
    /// The channel he wrote to: NAMESPACE/NAME or its UID
    #[arg(long)]
    pub channel: Option<String>,
    /// The conversation instead, by the 32 digits that `dead-letters show` prints
    #[arg(long, value_name = "DIGITS", conflicts_with = "customer")]
    pub conversation: Option<String>,
    /// Where it asks.
    #[command(flatten)]
    pub port: PortFlags,
}

/// Erases the customer and prints what there was.
///
/// # Errors
/// When the admin port does not answer, or does not do it.
pub async fn run(command: &EraseCommand, flags: &Flags) -> anyhow::Result<()> {
    let port = ControlPort::open(&command.port, flags)?;
    let request = EraseRequest {
        channel: command.channel.clone(),
        customer: command.customer.clone(),
        conversation: command.conversation.clone(),
    };
    let erased: CustomerErased = port.post(PATH, &request).await?;
    if command.port.output == Output::Json {
        return print_json(&erased);
    }
    let CustomerErased { conversation, messages, dead_letters, in_progress } = erased;
    println!(
        "Conversation {conversation}: {messages} waiting and {dead_letters} dead letters erased."
    );
    if in_progress {
        println!("One was being worked on: what was posted to Twilio before may still arrive.");
    }
    Ok(())
}
