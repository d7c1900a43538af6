"""Small patients whose runs stay finite: a healthy course, and one for each cause that only stalls or swings."""

from dataclasses import replace

from nandoctor.evidence import (
    Accumulation,
    Course,
    DeadLayer,
    Denominator,
    Depth,
    Dynamics,
    Evidence,
    Trained,
    Underflow,
    Units,
)

LEARNED = Course(
    steps=400, start=2.3, end=0.4, best=0.38, stalled=0.1, stalled_steps=40, progress=0.83, noise=0.01,
    swing=0.1, flips=0.66, autocorrelation=-0.48, slow=2.0, period=6.0, periodic=0.08, amplitude=0.1, falling=-0.1,
)  # fmt: skip
STALLED = replace(LEARNED, end=2.28, best=2.27, stalled=0.8, stalled_steps=320, progress=0.01, falling=0.0)
HALF_WAY = replace(LEARNED, end=1.8, best=1.78, stalled=0.6, stalled_steps=240, progress=0.22)
SWINGING = replace(
    LEARNED, end=1.4, best=0.9, progress=0.4, swing=1.2, flips=0.97, autocorrelation=-0.9, falling=0.02,
    period=2.0, periodic=0.8, amplitude=0.9,
)  # fmt: skip


def silent_patients(healthy: Evidence) -> dict[str, Evidence]:
    assert healthy.optimizer
    sound = replace(
        healthy, steps=400, course=LEARNED,
        dynamics=Dynamics(0.15, 0.3, 0.05),
        units=Units((DeadLayer("fc1", "Linear", 0.05, 0.05, 64, 20),), True),
        depth=Depth(4, "fc1.weight", 0.2, 0.4, 0.5, False, 0),
        denominator=Denominator(1e-8, "float32", False, 0.0, 0.0, 1.1, 3.16, 0.9, 0.999, None, None),
        underflow=Underflow(0, None, None, None, False, None, None),
        accumulation=Accumulation(1, 1.0, None, 0.0, 0, True, 0.0),
        trained=Trained(10_000, 1.0, (), 0.0, 2.0, 1.0),
    )  # fmt: skip
    assert sound.accumulation and sound.denominator and sound.depth and sound.trained and sound.underflow
    adam = replace(healthy.optimizer, name="Adam", adaptive=True, settings={"lr": 1e-3, "eps": 1e-16}, lr=1e-3)
    return {
        "fp16-underflow": replace(
            sound, course=STALLED,
            underflow=Underflow(400, 0.97, 0.1, "fc1", False, None, "float16"),
            precision=replace(healthy.precision, float16=True, autocast="float16"),
        ),
        "gradient-accumulation-bug": replace(
            sound, accumulation=replace(sound.accumulation, stale=0.99, longest_stale=399, cleared=False),
        ),
        "optimizer-epsilon": replace(
            sound, course=SWINGING, optimizer=adam,
            denominator=replace(sound.denominator, eps=1e-16, dtype="float16", vanishes=True, zeros=0.3, largest=900.0,
                                broken_at=7),
        ),
        "vanishing-gradients": replace(
            sound, course=HALF_WAY, depth=replace(sound.depth, matrices=9, ratio=2e-7, ordered=1.0, gain=1e-8,
                                                  saturating=8),
        ),
        "dead-relu": replace(
            sound, course=HALF_WAY, units=Units((DeadLayer("fc2", "Linear", 0.97, 0.97, 64, 20),), True),
        ),
        "loss-oscillation": replace(sound, course=SWINGING, dynamics=Dynamics(-0.7, 0.95, 0.1)),
        "loss-plateau": replace(
            sound, course=STALLED, trained=replace(sound.trained, moved=0.02, left_out=("encoder.fc1.weight",),
                                                   forgotten=0.98),
        ),
        "healthy": sound,
    }  # fmt: skip
