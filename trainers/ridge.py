"""W by least squares on the present functions. Axis letters: T frames, N neurons."""

from __future__ import annotations

import torch

from models.signal import SignalPropagation

MOST_FRAMES = 20000
"""Frames of a solve, evenly spaced."""
CHUNK = 500
"""Frames whose functions are evaluated at once."""
ROUNDS = 10
"""Rounds in which the ridge settles."""


@torch.no_grad()
def solve_W_(model: SignalPropagation, u_all: torch.Tensor, du_all: torch.Tensor, rounds: int = ROUNDS, boost: float = 1.0) -> float:
    """Set W to the ridge solution"""
    n = u_all.shape[1]
    frames = torch.arange(0, len(u_all), -(-len(u_all) // MOST_FRAMES), device=u_all.device)
    gram = torch.zeros(n, n, dtype=torch.float64, device=u_all.device)
    cross, power = torch.zeros_like(gram), torch.zeros((), dtype=torch.float64, device=u_all.device)
    for chunk in frames.split(CHUNK):
        u = u_all[chunk]
        sent, wanted = model.sent(u).double(), (du_all[chunk] - model.self_term(u)).double()
        gram += sent.T @ sent
        cross += wanted.T @ sent
        power += wanted.square().sum()
    values, vectors = torch.linalg.eigh(gram)
    values = values.clamp(min=0)
    rotated = cross @ vectors
    K = len(frames)
    W = model.connectivity().double()
    rss = power - 2 * (W * cross).sum() + ((W @ gram) * W).sum()
    sigma2 = rss / (K * n)
    tau2 = None
    ridge = values.max() * 1e-3
    for r in range(rounds):
        rot = rotated / (values + ridge)
        Wn = rot @ vectors.T
        rss = power - 2 * (Wn * cross).sum() + (rot.square() * values).sum()
        gamma = (values / (values + ridge)).sum()
        s2 = rss / (n * (K - gamma))
        t2 = rot.square().sum() / (n * gamma)
        ridge = boost * s2 / t2
    inverse = (vectors / (values + ridge)) @ vectors.T
    Wn = (rotated / (values + ridge)) @ vectors.T
    own = Wn.diagonal() / inverse.diagonal()
    Wn = Wn - own[:, None] * inverse
    model.W.copy_(Wn.float())
    return dict(sigma_before=float(sigma2.sqrt()), sigma=float(s2.sqrt()), ridge=float(ridge), smax=float(values.max()), gamma=float(gamma))
