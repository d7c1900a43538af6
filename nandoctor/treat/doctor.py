"""The doctor: sees each step before it is taken, asks the judges when something is wrong, treats, and looks again."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from ..causes import CAUSES
from ..evidence import Evidence, gather
from ..recording.run import Run
from .alarm import PERSISTS, alarm_of
from .applied import Applied, Case, Gradients, target
from .ledger import Ledger
from .opinion import Opinion, Trial, ask, key_of
from .patience import foremost, stale, waits
from .plans import UNKNOWN, plan
from .rehearsal import Rehearsal
from .safety import Safety
from .snapshots import Snapshot, Snapshots, buffers_of, restore
from .verdicts import advise, helped, stand_aside, withdraw_answers, withdrawn
from .vitals import Vitals
from .weighing import weigh_rate, weigh_up
from .window import Window

CHECK_UPS = (1, 2, 3, 5, 8, 12, 20, 30, 40, 60, 90, 120, 150, 200, 300, 400, 600, 900, 1400, 2000)  # then every 1,000
CHECK_UP_SHARE = 0.02  # of the run may go into asking the judges while nothing is wrong
GRACE_S = 1.0  # of processor time, that a short run has in any case: the first 40 looks
AGREE = 2  # looks that must name the same cause where every number is finite, PERSISTS steps apart
DRIFTS = 8  # steps between looks at whether the loss has left its best level for good
JUDGED_AFTER = 25  # steps without an alarm: the treatment has helped
TRIES = 3  # treatments for one cause at one place
PLACES = 4  # of one cause: a second operation that leaves its domain is a fault of its own
TINY_BATCH = "batchnorm-tiny-batch"
BAD_IN_A_ROW = 3  # steps without a cause that explains them: then the weights themselves are suspected


@dataclass
class Doctor:
    run: Run
    policy: str
    allowed: frozenset[str]  # treatments that may be used; empty: all
    most: int | None  # treatments in all
    documents: bool
    window: Window
    ledger: Ledger
    alarms: Any = None  # recording/autopsy/incidents.py
    vitals: Vitals = field(default_factory=Vitals)
    snapshots: Snapshots = field(default_factory=Snapshots)
    optimizers: list[Optimizer] = field(default_factory=list)
    active: list[Applied] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    tried: dict[str, int] = field(default_factory=dict)  # cause -> treatments so far
    done: list[tuple[Applied, str]] = field(default_factory=list)  # and for which cause at which place
    given_up: set[str] = field(default_factory=set)
    advised: set[str] = field(default_factory=set)
    count: int = 0
    loss: float | None = None
    incidents: int = 0  # of the window, when the judges were asked last
    awake: int = 0
    jumped: int = 0  # step of the first jump of late
    weighed: int = 0  # jumps that were weighed up
    doubted: int = 0  # rates that may be too high and were weighed
    doubt_again: int = 0  # step until which none is
    look_again: int = -1  # step: what one look has named another one may confirm
    gone: set[int] = field(default_factory=set)  # optimizers whose gradients at hand are of weights that are no more
    fresh: bool = False  # it went back, and no model has been called since
    agreed: tuple[str, int, int] = ("", 0, 0)  # cause, looks in a row, since which step
    asked_s: float = 0.0
    begun: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.safety = Safety(self.snapshots)
        self.rehearsal = Rehearsal(self.run.recorder)

    # --- what the hooks tell ---------------------------------------------------------------------------------
    def loss_seen(self, value: float) -> None:
        self.loss = value
        self.gone.clear()

    def meet(self, optimizer: Optimizer) -> bool:
        """Whether it is a new one."""
        if any(known is optimizer for known in self.optimizers):
            return False
        self.optimizers.append(optimizer)
        self.snapshots.met(optimizer)
        return True

    def before_step(self, optimizer: Optimizer, gradients: Gradients | None) -> bool:
        """True: this step is to be left out. gradients: None where a closure makes them."""
        step = self.run.recorder.step
        self.incidents = self.window.incidents
        self.fresh = False
        self.rehearsal.step_begins()
        if id(optimizer) in self.gone:
            self.gone.discard(id(optimizer))
            return True
        if self.rehearsal.copy is not None:
            return self.rehearsed(gradients)
        if self.snapshots.due(step) and self.calm():
            self.snapshots.take(step, self.optimizers, self.buffers(), self.vitals.best_step)
        if gradients is None:
            return self.check_up(None)
        alarm = alarm_of(self, gradients)
        if not alarm and len(self.optimizers) == 1:
            for again in self.each("again"):
                again(self.rehearsal)
            if self.rehearsal.copy is not None:
                return False
        return self.consult(gradients, alarm) if alarm else self.check_up(gradients)

    def rehearsed(self, gradients: Gradients | None) -> bool:
        """A step of a forked copy: what is in force stays, nobody is asked."""
        assert self.rehearsal.copy is not None
        self.rehearsal.copy.loss_seen(self.loss)
        if gradients is not None:
            alarm_of(self, gradients)
        return False

    def model_begins(self) -> None:
        """The model is called: was there an incident after which no step was taken? A guard or a GradScaler skips."""
        if self.fresh:  # what was filed belongs to weights that are gone
            self.window.forget(self.run.recorder.step)
            self.alarms.filed = 0
        elif self.rehearsal.copy is None and self.window.incidents != self.incidents:
            self.consult(None, "a step was left out")
        self.incidents, self.fresh = self.window.incidents, False

    def models(self) -> list[nn.Module]:
        return [top for model in self.run.names.models if (top := model.ref()) is not None]

    def buffers(self) -> list[Tensor]:
        return buffers_of(self.models())

    def calm(self) -> bool:
        vitals = self.vitals
        return not (self.awake or vitals.bad_in_a_row or vitals.loss.high() or vitals.norm.high())

    # --- the judges ------------------------------------------------------------------------------------------
    def check_up(self, gradients: Gradients | None) -> bool:
        """Causes that raise no alarm: at set steps, as long as it costs next to nothing."""
        self.look_back()
        if self.run.alone is not None and self.run.alone.always() and TINY_BATCH not in self.tried:
            why = "every batch gives one value per channel: torch would raise"
            return self.treat(Opinion(TINY_BATCH, 0.0, why, gather(self.window.trace()), True), gradients, "")
        step = self.run.recorder.step - self.window.base
        due = step in CHECK_UPS or step and step % 1000 == 0 or self.run.recorder.step == self.look_again
        if not due and not (step % DRIFTS == 0 and self.vitals.drifted()):
            return False
        allowed = CHECK_UP_SHARE * (time.monotonic() - self.begun) + GRACE_S
        return self.consult(gradients, "") if self.asked_s < allowed else False

    def consult(self, gradients: Gradients | None, alarm: str) -> bool:
        """Ask, and act where they are sure. True: leave this step out, it belongs to weights that are gone."""
        opinion = self.opinion()
        if opinion is None:
            self.agreed = ("", 0, 0)
            if self.vitals.bad_in_a_row < BAD_IN_A_ROW or stale(self.trials, self.run.recorder.step):
                return weigh_up(self, gradients)
            opinion = Opinion(UNKNOWN, 0.0, f"{self.vitals.bad_in_a_row} steps in a row, {alarm}", self.evidence, True)
        if opinion.cause != UNKNOWN and opinion.evidence.bad is None:
            agreed = self._agree(opinion)
            if waits(opinion, self.vitals, self.run.scale):
                return weigh_rate(self, opinion, gradients)
            if not agreed:
                self.look_again = self.run.recorder.step + PERSISTS
                return False
        return self.treat(opinion, gradients, alarm)

    def opinion(self) -> Opinion | None:
        begun = time.thread_time()
        self.run.recorder.flush()
        evidence = self.evidence = gather(self.window.trace())
        settled = {cause.id for cause in CAUSES if self._settled(cause.id, evidence)}
        opinion = foremost(ask(evidence, settled, self.documents), self.vitals, self.run.scale)
        self.asked_s += time.thread_time() - begun
        return opinion

    def _settled(self, cause: str, e: Evidence) -> bool:
        """Given up, or mended after it is seen, or about first weights in a window that began with later ones."""
        calm = not (self.vitals.bad_in_a_row or self.vitals.loss.high())
        if any(applied.upstream == cause or calm and applied.beneath == cause for applied in self.active):
            return True
        return key_of(cause, e) in self.given_up or (cause == "bad-initialization" and self.window.base > 0)

    def _agree(self, opinion: Opinion) -> bool:
        """Every number is finite: one look is not enough, and a peak may come back."""
        step = self.run.recorder.step
        cause, times, since = self.agreed
        same = cause == opinion.cause
        self.agreed = (opinion.cause, times + 1 if same else 1, since if same else step)
        return self.agreed[1] >= AGREE and (not opinion.failed or step - self.agreed[2] >= PERSISTS)

    # --- treating --------------------------------------------------------------------------------------------
    def treat(self, opinion: Opinion, gradients: Gradients | None, alarm: str) -> bool:
        cause, key = opinion.cause, opinion.key
        step = self.run.recorder.step
        if key in self.given_up or any(trial.key == key and trial.since == step for trial in self.trials):
            return False
        why = f"{opinion.because} ({opinion.confidence:.0%} sure)" if opinion.confidence else opinion.because
        if self.policy == "advise":
            return self._advise(opinion, why)
        self._withdraw(key)
        past = self.run.scalers is not None and self.run.scalers.past > 0
        treatments = plan(cause, self.documents, opinion.evidence, past)
        known = sum(1 for each in self.tried if each.split(" ")[0] == cause)
        done = sum(1 for applied, of in self.done if of == key)
        while self.tried.get(key, 0) < len(treatments) and done < TRIES and not self._used_up() and known <= PLACES:
            place = self.tried.get(key, 0)
            self.tried[key] = place + 1
            name, apply = treatments[place]
            if self.allowed and name not in self.allowed:
                continue
            applied = apply(self.case(opinion, gradients, name))
            if applied is not None:
                return self.put_in_force(applied, opinion, why)
        self.give_up(cause, key, why)
        return False

    def case(self, opinion: Opinion, gradients: Gradients | None, name: str) -> Case:
        return Case(
            self.run, opinion.evidence, opinion.cause, self.optimizers, self.vitals, self.snapshots,
            sum(1 for applied, of in self.done if of == opinion.key and applied.name == name),
            self.documents, self.policy, bool(self.allowed), gradients,
        )  # fmt: skip

    def begin(self, applied: Applied, opinion: Opinion) -> Snapshot | None:
        """Where it went back to."""
        onset = opinion.evidence.onset.step
        if opinion.failed and opinion.evidence.bad is None and self.vitals.lost_ground():
            onset = min(onset, self.vitals.best_step - self.window.base)  # it left its path long before that was sure
        snapshot = target(self.snapshots, applied, self.window.base, onset)
        self.active.append(applied)
        if snapshot is not None:
            restore(snapshot)
            self.snapshots.forget_after(snapshot)
            self.vitals.start_anew()
            self.gone = {id(each) for each in self.optimizers if len(self.optimizers) > 1}
            self.fresh = True
        return snapshot

    def put_in_force(self, applied: Applied, opinion: Opinion, why: str) -> bool:
        step, cause = self.run.recorder.step, opinion.cause
        withdraw_answers(self, applied)
        snapshot = self.begin(applied, opinion)
        back = f"; weights and optimizer state are those of step {snapshot.step} again" if snapshot else ""
        self.count += 1
        self.done.append((applied, opinion.key))
        self.trials.append(Trial(applied, cause, opinion.key, step))
        self.ledger.write(
            "applied", applied.name, cause, applied.what + back, why, applied.undo,
            confidence=opinion.confidence, patch=applied.patch, back_to=snapshot.step if snapshot else None,
        )  # fmt: skip
        self.window.forget(step + 1)
        self.alarms.filed = 0  # what goes wrong from here on is news
        self.agreed, self.awake = ("", 0, 0), 0
        if applied.settle is not None and len(self.optimizers) == 1:
            applied.settle(self.rehearsal)
        return snapshot is not None

    def _withdraw(self, key: str) -> None:
        """What was tried for this cause at this place, and is still on trial, has not helped."""
        for trial in [trial for trial in self.trials if trial.key == key]:
            self.trials.remove(trial)
            if trial.applied in self.active:
                self.active.remove(trial.applied)
                trial.applied.stop()
            why = f"{self.run.recorder.step - trial.since} steps later it is worse or no better"
            withdrawn(self.ledger, trial.applied, trial.cause, why)

    def look_back(self) -> None:
        """Nothing is wrong at this step: have the treatments on trial proved themselves?"""
        for trial in [t for t in self.trials if self.run.recorder.step - t.since >= JUDGED_AFTER]:
            self.trials.remove(trial)
            helped(self.ledger, trial, JUDGED_AFTER)

    def _advise(self, opinion: Opinion, why: str) -> bool:
        if opinion.key not in self.advised:
            self.advised.add(opinion.key)
            advise(self.ledger, opinion, plan(opinion.cause, self.documents, opinion.evidence), why)
        return False

    def _used_up(self) -> bool:
        return self.most is not None and self.count >= self.most

    def give_up(self, cause: str, key: str, why: str) -> None:
        self.given_up.add(key)
        stand_aside(self.ledger, cause, sum(1 for _, of in self.done if of == key), self._used_up(), why)

    # --- for every step --------------------------------------------------------------------------------------
    def each(self, hook: str) -> list[Callable[..., Any]]:
        return [call for applied in self.active if (call := getattr(applied, hook)) is not None]
