"""Training of the neural signal model: the loop, and the estimates it leaves. Axis letters: B batch, N neurons."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from models.signal import CONNECTIVITY, SignalPropagation
from models.utils import sample_frames
from trainers.compiling import compiler, right_hand_side
from trainers.data import XNORM_STD, SignalData, SignalInputs, load_signal
from trainers.embeddings import replace_embeddings_, replacement_step
from trainers.errors import DivergedError
from trainers.idle import idle_keys
from trainers.losses import (
    coefficients,
    edge_diff,
    group_lasso,
    prediction_loss,
    residual_unit,
    root_mean_square,
    small_entries,
    soft_threshold_,
)
from trainers.optim import rate_factor
from trainers.order import Order
from trainers.rollout import euler_rollout, ode_solver, rollout_depth
from trainers.run import Run
from trainers.settings import Reader, SignalConfig, n_iterations

ESTIMATE_MOMENTS = (0.05, 0.3, 0.65)
"""Fractions of the training after which an intermediate estimate is written; the final one comes on top."""
ROWS_WORTH_SHARING = 16384
"""Neurons times frames of a step from which more than one thread is used."""
DELTA_PARTS = 150
"""delta of the edge_diff term is xnorm over this many parts."""


def new_model(n_neurons: int, graph_model: Any, single_type: bool, W_init_scale: float = 1.0) -> SignalPropagation:
    """Return an untrained model; weights come from torch's global random state."""
    return SignalPropagation(
        n_neurons=n_neurons,
        embedding_dim=graph_model.embedding_dim,
        edge=(graph_model.hidden_dim, graph_model.n_layers),
        phi=(graph_model.hidden_dim_update, graph_model.n_layers_update),
        activation=graph_model.MLP_activation,
        single_type=single_type,
        lin_edge_mode=graph_model.lin_edge_mode,
        W_init_scale=W_init_scale,
        W_rank=graph_model.W_rank,
        W_zero_diagonal=graph_model.W_zero_diagonal,
    )


def estimates(model: SignalPropagation, inputs: SignalInputs) -> dict[str, torch.Tensor]:
    """Return what is learned so far: W, a, and both functions on the grid."""
    lin_edge, lin_phi = model.curves(inputs.grid_u.to(model.a.device))
    return {"W": model.connectivity(), "a": model.a, "lin_edge": lin_edge, "lin_phi": lin_phi}


@torch.no_grad()
def predictions(model: SignalPropagation, inputs: SignalInputs) -> dict[str, torch.Tensor]:
    """Return du/dt on the held-out frames and the rollouts from the given states."""
    device = model.a.device
    u0 = inputs.rollout_u0.to(device)
    return {
        "heldout_du": model(inputs.heldout_u.to(device)),
        "rollout_u": euler_rollout(model, u0, inputs.rollout_frames, inputs.delta_t),
    }


def data_train_signal(  # noqa: C901 (one loop that can be read and edited alone)
    config: Any, data: SignalData, inputs: SignalInputs, run: Run
) -> SignalPropagation:
    """Train W, a, lin_edge and lin_phi on du/dt and return the model.

    A step predicts du/dt of single frames. With `recurrent_training` or `neural_ODE_training`, from their start epoch
    on, it predicts the state `time_step` frames ahead, by Euler steps of the model's own predictions or by an ODE
    solver; the residual (u_hat - u) / (delta_t * time_step) has the same unit, and for one noiseless Euler step the
    same value. The other keys of `training` are described in trainers/settings.py, the two phases in `coefficients`.

    Everything that must survive a kill stands in `stateful`: state_dict holders, generators, tensors changed in place.

    Args:
        config: sections simulation, graph_model and training.
        data: frames to train on.
        inputs: grid for the intermediate estimates.
        run: files of the run; `record` after every step answers SIGTERM and NaN.

    Source: reference sections 3.3.1 to 3.3.7. Deviations: delta is not rounded, no small batches in epoch 0.
    """
    simulation, graph_model, training = config.simulation, config.graph_model, config.training
    torch.manual_seed(training.seed)
    sampler = torch.Generator().manual_seed(training.seed)

    model = new_model(data.u.shape[1], graph_model, training.training_single_type, training.W_init_scale)
    model = model.to(run.device)
    u_all, du_all = data.on(run.device)
    delta = data.xnorm / DELTA_PARTS
    unit = residual_unit(training, data)

    batch_size, kind = training.batch_size, training.loss
    grad_clip, small_threshold = training.grad_clip_W, training.W_small_threshold
    n_epochs, n_epochs_init = training.n_epochs, training.n_epochs_init
    Niter = n_iterations(simulation.n_frames, training.data_augmentation_loop, batch_size)
    moments = {max(1, int(part * n_epochs * Niter)) for part in ESTIMATE_MOMENTS}
    replace_at = replacement_step(training, n_epochs * Niter)

    weights = [p for name, p in model.named_parameters() if name in CONNECTIVITY]
    learned = [p for name, p in model.named_parameters() if name not in CONNECTIVITY]
    others = [p for p in learned if p is not model.a]
    groups = [{"params": others, "lr": training.learning_rate_start}]
    if not training.training_single_type:
        groups.append({"params": [model.a], "lr": training.learning_rate_embedding_start})
    optimizer = torch.optim.Adam(groups, fused=True)
    if training.optimizer_W == "sgd":
        optimizer_W = torch.optim.SGD(weights, lr=training.learning_rate_W_start, momentum=training.momentum_W)
    else:
        optimizer_W = torch.optim.Adam(weights, lr=training.learning_rate_W_start, fused=True)
    schedule = (training.lr_scheduler, training.lr_scheduler_final, training.lr_scheduler_drops)
    schedule_others = schedule if training.lr_scheduler_scope == "all" else ("none", *schedule[1:])
    scheduled = training.lr_scheduler != "none"
    scheduler = LambdaLR(optimizer, lambda step: rate_factor(step / (n_epochs * Niter), *schedule_others))
    scheduler_W = LambdaLR(optimizer_W, lambda step: rate_factor(step / (n_epochs * Niter), *schedule))

    delta_t, noise_level = data.delta_t, training.noise_recurrent_level
    solver = ode_solver(training, data.xnorm / XNORM_STD) if training.neural_ODE_training else None
    unrolls = training.recurrent_training or training.neural_ODE_training
    unroll_from = training.recurrent_training_start_epoch if unrolls else math.inf
    rate, rate_ahead = right_hand_side(model, training)  # of single frames, of the frames of a rollout

    stateful = {"model": model, "optimizer": optimizer, "optimizer_W": optimizer_W,
                "scheduler": scheduler, "scheduler_W": scheduler_W, "sampler": sampler}  # fmt: skip
    step = run.resume(stateful, total=n_epochs * Niter)

    for epoch in range(step // Niter, n_epochs):
        first_phase = epoch < n_epochs_init
        coeff = coefficients(training, graph_model, first_phase)
        if step == epoch * Niter:
            run.start_epoch()

        for _ in range(step - epoch * Niter, Niter):
            time_step = rollout_depth(training, step, unroll_from * Niter, n_epochs * Niter)  # 0: du/dt of the frames
            frames = sample_frames(len(u_all) - time_step, batch_size, sampler).to(run.device)
            if time_step > 1:
                frames = frames - frames % time_step
            if step == replace_at:
                replace_embeddings_(model.a, training.embedding_clusters, training.embedding_clusters_max)
            u = u_all[frames]
            W = model.connectivity()
            terms, sent = {}, None

            if coeff.edge_diff > 0:  # one evaluation of lin_edge serves the message and the penalty
                sent, sent_above = model.sent(torch.stack([u, u + delta]))
                terms["edge_diff"] = coeff.edge_diff * edge_diff(sent, sent_above, kind)

            if time_step == 0:
                residual = rate(u, W, sent) - du_all[frames]
            else:
                wanted = range(1 if training.recurrent_intermediate > 0 else time_step, time_step + 1)
                if solver is not None:
                    states = solver.states(rate_ahead, u, W, wanted, delta_t, learned)
                else:
                    u_hat, states = u, {}
                    for ahead in range(1, time_step + 1):
                        u_hat = u_hat + delta_t * rate_ahead(u_hat, W, sent if ahead == 1 else None)
                        if noise_level > 0:
                            u_hat = u_hat + noise_level * torch.randn_like(u_hat)
                        states[ahead] = u_hat
                *early, residual = [(states[t] - u_all[frames + t]) / (delta_t * t) for t in wanted]
                if early:
                    losses = [prediction_loss(missed / unit, kind) for missed in early]
                    terms["intermediate"] = training.recurrent_intermediate * sum(losses) / len(losses)

            terms["prediction"] = prediction_loss(residual / unit, kind)
            if coeff.L1 > 0:
                terms["W_L1"] = coeff.L1 * W.abs().sum()
            if coeff.small > 0:
                terms["W_small"] = coeff.small * small_entries(W, small_threshold)
            if coeff.group_lasso > 0:
                terms["W_group_lasso"] = coeff.group_lasso * group_lasso(W)
            loss = sum(terms.values())

            optimizer.zero_grad()
            optimizer_W.zero_grad()
            loss.backward()
            if time_step > 0 and solver is not None:
                run.count("ode_function_evaluations", solver.taken())
            if step >= replace_at:
                model.a.grad = None  # embeddings stay what they were replaced by
            if grad_clip > 0:
                torch.nn.utils.clip_grad_norm_(weights, grad_clip)
            optimizer.step()
            optimizer_W.step()
            if coeff.proximal > 0:
                soft_threshold_(model.W, coeff.proximal * optimizer_W.param_groups[0]["lr"])
            if scheduled:
                scheduler.step()
                scheduler_W.step()

            step += 1
            if step in moments:
                run.save_estimate(estimates(model, inputs), epoch, step)
            run.record(stateful, terms, 1 if first_phase else 2, epoch, step)
        run.checkpoint(stateful, epoch, step)
    return model


def useful_threads(threads: int, config: SignalConfig) -> int:
    """Return how many of the allowed threads a training should use.

    A step of a few thousand MLP rows takes 2 ms and is not worth sharing: on two cores with other work on them, a
    second thread made steps 6 to 38 times slower (n = 100 to 1000, batch 8: threads wait for each other by spinning).
    """
    return threads if config.training.batch_size * config.simulation.n_neurons >= ROWS_WORTH_SHARING else 1


def train(order: Order, run_dir: Path, new_run: type[Run] | None = None) -> None:
    """Carry out a training order: train, write the final estimate and train.json.

    Args:
        order: what to train.
        run_dir: RUN_DIR.
        new_run: the class that writes the files of the run.

    Raises:
        StepError: see `trainers.errors`.
    """
    torch.set_num_threads(useful_threads(order.threads, order.config))
    if order.device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    data, inputs = load_signal(order.train, order.inputs)
    run = (new_run or Run)(run_dir, order.identity, order.device)
    run.listen()
    config = Reader(order.config)
    training = order.config.training
    with compiler(training.compile, run.out / "compiled"):
        model = data_train_signal(config, data, inputs, run)
    count = training.batch_size * data.u.shape[1]
    final_loss = root_mean_square(run.mean_prediction_loss, training.loss, count) * residual_unit(training, data)
    learned = estimates(model, inputs)
    for name, value in learned.items():
        if not bool(torch.isfinite(value).all()):
            raise DivergedError(f"{name} is not finite after the last step; lower the learning rates")
    arrays = learned | predictions(model, inputs)
    run.save_estimate(arrays, *run.last, final=True)
    run.finish(sorted(config.keys_read), idle_keys(order.config), final_loss)
