//! Faults under load: three replicas on real servers, clients that keep a ledger, a fault, and a checker that reads the
//! topics from their beginning.
//!
//! The **stage** has the servers and the proxies in front of them. The **cluster** has the replicas. The **load** posts
//! events, those of a key one after the other, and notes in the **ledger** what it submitted and what was acknowledged.
//! A **fault** happens meanwhile. Then the load rests, and the **checker** compares ledger and topics: nothing lost,
//! nothing doubled in effect, no first appearance out of order, nothing that must not be there. It never asks Belfry
//! what happened.

mod arrivals;
mod checker;
mod cluster;
mod faults;
mod lane;
mod ledger;
mod load;
mod promotion;
mod results;
mod round;
mod stage;
mod tail;
mod verdict;

pub use checker::{Checker, Seen};
pub use cluster::{Cluster, Replica};
pub use faults::{Fault, Length};
pub use ledger::{Ledger, Promise};
pub use load::Load;
pub use promotion::{Meanwhile, Promoted, promotion};
pub use results::Results;
pub use round::{Arena, round};
pub use stage::Stage;
pub use verdict::Verdict;
