/// Any error, as a [`Signer`](crate::jose::Signer) or a
/// [`ChallengeSolver`](crate::solver::ChallengeSolver) gives it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
