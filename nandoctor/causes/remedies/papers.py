"""Papers, where none of the five documents covers a cause; the same list stands in docs/sources.md."""

from ...evidence import Evidence
from .. import treatments
from ..cause import Remedy
from ..wording import num, percent
from . import code_lines
from .this_run import accumulated, half_weights, rate, rounded, setting

PAPERS = {
    "ba-2016": "Ba, Kiros, Hinton: Layer Normalization. arXiv:1607.06450",
    "dixit-2021": "Dixit et al.: Silent Data Corruptions at Scale. arXiv:2102.11245",
    "glorot-2010": "Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks. AISTATS",
    "goyal-2017": "Goyal et al.: Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour. arXiv:1706.02677",
    "he-2015": "He, Zhang, Ren, Sun: Delving Deep into Rectifiers. ICCV, arXiv:1502.01852",
    "he-2016": "He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition. CVPR, arXiv:1512.03385",
    "kingma-2015": "Kingma, Ba: Adam: A Method for Stochastic Optimization. ICLR, arXiv:1412.6980",
    "lu-2019": "Lu, Shin, Su, Karniadakis: Dying ReLU and Initialization. arXiv:1903.06733",
    "maas-2013": "Maas, Hannun, Ng: Rectifier Nonlinearities Improve Neural Network Acoustic Models. ICML workshop",
    "micikevicius-2018": "Micikevicius et al.: Mixed Precision Training. ICLR, arXiv:1710.03740",
    "pascanu-2013": "Pascanu, Mikolov, Bengio: On the difficulty of training recurrent neural networks. ICML, "
    "arXiv:1211.5063",
    "reddi-2018": "Reddi, Kale, Kumar: On the Convergence of Adam and Beyond. ICLR, arXiv:1904.09237",
    "saxe-2014": "Saxe, McClelland, Ganguli: Exact solutions to the nonlinear dynamics of learning in deep linear "
    "neural networks. ICLR, arXiv:1312.6120",
    "smith-2017": "Smith: Cyclical Learning Rates for Training Neural Networks. WACV, arXiv:1506.01186",
    "smith-2018": "Smith, Kindermans, Ying, Le: Don't Decay the Learning Rate, Increase the Batch Size. ICLR, "
    "arXiv:1711.00489",
    "sutskever-2013": "Sutskever, Martens, Dahl, Hinton: On the importance of initialization and momentum in deep "
    "learning. ICML",
    "zamirai-2020": "Zamirai et al.: Revisiting BFloat16 Training. arXiv:2010.06192",
}
LOST = {"float16": 2.0**-12, "bfloat16": 2.0**-9}  # half of the last digit: a smaller update always rounds away
HALF_EPS = 1e-4  # of the range 1e-4 to 1e-6 that half-precision state can hold beside its square roots
BETAS, MOMENTUM, ALPHA = (0.9, 0.999), 0.9, 0.99  # of the papers, and of torch
RMSPROP = "https://docs.pytorch.org/docs/stable/generated/torch.optim.RMSprop.html"
FAN_IN = 3.0  # std * sqrt(fan-in) of twice He's rule, which is 1.41
MOSTLY_DEAD = 0.5  # of a layer's units: dead-relu's own line
OSCILLATION_DECAY = 0.1  # goyal-2017 divides by ten at each of its milestones
LEAST = 1e-30  # an lr below it is no number to scale by


# --- half precision --------------------------------------------------------------------------------------------------


def master_weights(e: Evidence) -> Remedy:
    kind = half_weights(e) or "half"
    change = f"{kind} weights -> float32 weights, with autocast around the forward pass"
    if kind in LOST:
        change += f": {kind} rounds every update away that is below {percent(LOST[kind])} of its weight"
    code = code_lines.master_weights(e)
    return Remedy("Keep the weights in float32", change, "micikevicius-2018", treatments.AMP_ORDER, code)


def scale_loss(e: Evidence) -> Remedy:
    """Gradients below 6e-8 are 0 in float16."""
    change = "float16 ends at 6e-8: multiply the loss by 65536 before backward, divide the gradients before the step"
    code = f"{code_lines.grad_scaler(e, init_scale=65536)}  # scaler.scale(loss).backward(); scaler.step(optimizer)"
    source = "micikevicius-2018"
    return Remedy("Scale the loss, so that its gradients fit", change, source, treatments.AMP_ORDER, code)


def compensated_updates(e: Evidence) -> Remedy:
    change = "where the weights must stay in bfloat16: round the update stochastically, or keep what it lost (Kahan)"
    return Remedy("Do not lose small updates", change, "zamirai-2020")


def larger_epsilon(e: Evidence) -> Remedy:
    """1e-8 is the paper's, and no number of float16."""
    eps, kind = setting(e, "eps"), half_weights(e)
    new = HALF_EPS if kind == "float16" else 1e-8
    was = f"{num(eps)} -> {num(new)}" if eps is not None else num(new)
    why = "; float16 rounds 1e-8 to 0 (1e-4 to 1e-6 are safe)" if kind == "float16" else ", Adam's default"
    title = "Keep eps below the denominator" if eps is not None and eps > HALF_EPS else "Keep the denominator from 0"
    code = code_lines.optimizer(e, rate(e), eps=new)
    return Remedy(title, f"eps {was}{why}", "kingma-2015", treatments.OPTIMIZER, code)


def default_betas(e: Evidence) -> Remedy:
    """beta2 remembers 1 / (1 - beta2) gradients; momentum multiplies a steady step by 1 / (1 - momentum)."""
    momentum, alpha, first, second = (setting(e, name) for name in ("momentum", "alpha", "beta1", "beta2"))
    if first is None and alpha is not None and not (momentum or 0) > MOMENTUM:
        change = f"alpha {num(alpha)} -> {num(ALPHA)}: the mean square of about 100 gradients"
        code = code_lines.optimizer(e, rate(e), alpha=ALPHA)
        return Remedy("Go back to the usual memory", change, RMSPROP, treatments.OPTIMIZER, code)
    if first is None and momentum is not None:
        change = f"momentum {num(momentum)} -> {num(MOMENTUM)}"
        if 0 <= momentum < 1:
            change += f": a steady step is {num(1 / (1 - momentum))} times lr now"
        code = code_lines.optimizer(e, rate(e), momentum=MOMENTUM)
        return Remedy("Go back to the usual momentum", change, "sutskever-2013", treatments.OPTIMIZER, code)
    was = f"({num(first)}, {num(second)}) -> " if first is not None and second is not None else ""
    change = f"betas {was}{BETAS}; beta1 must stay below the root of beta2, or Adam need not converge"
    code = code_lines.optimizer(e, rate(e), betas=BETAS)
    return Remedy("Go back to the usual betas", change, "reddi-2018", treatments.OPTIMIZER, code)


# --- depth -----------------------------------------------------------------------------------------------------------


def relu(e: Evidence) -> Remedy:
    change = "sigmoid, tanh -> ReLU or GELU between the layers: the slope of a sigmoid is at most 1/4 in each of them"
    return Remedy("Use an activation that does not saturate", change, "glorot-2010", None, "act = torch.nn.ReLU()")


def xavier(e: Evidence) -> Remedy:
    change = "std = sqrt(2 / (fan_in + fan_out)) before tanh or sigmoid, so that gradients keep their size"
    code = "torch.nn.init.xavier_uniform_(layer.weight); torch.nn.init.zeros_(layer.bias)"
    return Remedy(f"Initialise{_worst(e)} by fan-in and fan-out", change, "glorot-2010", None, code)


def kaiming(e: Evidence) -> Remedy:
    change = "std = sqrt(2 / fan_in) before ReLU, biases 0"
    if e.weights and e.weights.worst_gain is not None:
        change += f" (std * sqrt(fan_in) is at most {num(e.weights.worst_gain)} here; the rule is 1.41)"
    code = "torch.nn.init.kaiming_normal_(layer.weight, nonlinearity='relu'); torch.nn.init.zeros_(layer.bias)"
    return Remedy(f"Initialise{_worst(e)} by the fan-in rule", change, "he-2015", None, code)


def _worst(e: Evidence) -> str:
    """The layer that is meant; a normalisation has no fan-in."""
    dead = e.units.dead[0] if e.units and e.units.dead else None
    if dead is not None and dead.silent >= MOSTLY_DEAD:
        return "" if "Norm" in dead.module else f" {dead.layer}"
    name = e.depth.smallest_layer if e.depth and e.depth.smallest_layer else None
    return f" {name.removesuffix('.weight')}" if name else ""


def residual(e: Evidence) -> Remedy:
    change = "y = f(x) -> y = x + f(x): the gradient has a way past every block"
    return Remedy("Let the gradient bypass the layers", change, "he-2016", None, "x = x + block(x)")


def layer_norm(e: Evidence) -> Remedy:
    change = "a LayerNorm (or BatchNorm) before each activation: no layer leaves the range where slopes are large"
    code = "block = torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.LayerNorm(width), torch.nn.ReLU())"
    return Remedy("Normalise between the layers", change, "ba-2016", None, code)


def fewer_layers(e: Evidence) -> Remedy:
    """Of a plain recurrent stack: a deep one without ways past its layers trains worse than a shallow one."""
    change = f"num_layers {stacked(e)} -> 2: plain stacks train the worse, the deeper they are; or add x + layer(x)"
    return Remedy("Stack fewer layers", change, "he-2016", None, "rnn = torch.nn.LSTM(inputs, hidden, num_layers=2)")


def stacked(e: Evidence) -> int:
    """Layers of the deepest nn.LSTM, GRU or RNN; 0 where there is none."""
    names = e.layout.parameters if e.layout is not None else ()
    found = [name.rpartition("weight_hh_l")[2] for name in names if "weight_hh_l" in name]
    return max((int(number) + 1 for number in found if number.isdecimal()), default=0)


def gated(e: Evidence) -> Remedy:
    length = e.gradients.usual_length if e.gradients else None
    seen = f" (usually {num(length)} steps here)" if length is not None and length > 1 else ""
    change = f"a plain RNN -> LSTM or GRU, and sequences cut to what must be remembered{seen}"
    return Remedy("Give a recurrence a gate", change, "pascanu-2013", None, "rnn = torch.nn.LSTM(inputs, hidden)")


def orthogonal(e: Evidence) -> Remedy:
    change = "recurrent weights orthogonal at the start: each of their factors keeps the length of the gradient"
    code = "for w in rnn.parameters(): torch.nn.init.orthogonal_(w) if w.dim() > 1 else torch.nn.init.zeros_(w)"
    return Remedy("Start recurrent weights orthogonal", change, "saxe-2014", None, code)


# --- units -----------------------------------------------------------------------------------------------------------


def leaky_relu(e: Evidence) -> Remedy:
    dead = e.units.dead[0] if e.units and e.units.dead else None
    seen = f" behind {dead.layer}, where {percent(dead.silent)} of {dead.units} units are silent" if dead else ""
    change = f"ReLU -> LeakyReLU(0.01) or GELU{seen}: a unit that is below 0 still gets a gradient"
    code = "act = torch.nn.LeakyReLU(negative_slope=0.01)"
    return Remedy("Use an activation that cannot die", change, "maas-2013", None, code)


def revive(e: Evidence) -> Remedy:
    dead = e.units.dead[0] if e.units and e.units.dead else None
    where = dead.layer if dead else "the dead layer"
    change = f"bias of {where} to 0 or slightly above; a unit that no input wakes gets no gradient and stays dead"
    code = f"torch.nn.init.constant_({code_lines.layer(e, dead.layer if dead else None)}.bias, 0.01)"
    return Remedy("Begin with biases that let units fire", change, "lu-2019", None, code)


# --- the course of the loss ------------------------------------------------------------------------------------------


def decay(e: Evidence) -> Remedy:
    lr, total = rate(e), e.style.total
    to = f"lr {num(lr)} -> {num(lr * OSCILLATION_DECAY)}" if lr is not None else "lr to a tenth"
    first, second = (str(total // 2), str(3 * total // 4)) if total else ("total_steps // 2", "3 * total_steps // 4")
    made = f"torch.optim.lr_scheduler.MultiStepLR(optimizer, [{first}, {second}], gamma=0.1)"
    change = f"{to} after half of the steps, and again after three quarters: large steps first, small ones to settle"
    code = code_lines.schedule(e, made, "batch")
    return Remedy("Let the learning rate decay", change, "goyal-2017", treatments.LEARNING_RATE, code)


def grow_batch(e: Evidence) -> Remedy:
    now = e.style.batch
    size = f"batch size {now} -> {4 * now}" if now else "a batch four times as large"
    change = f"{size} quiets the noise of the gradient as a quarter of the lr would; accumulate where memory is short"
    return Remedy("Or a larger batch instead of a lower rate", change, "smith-2018")


def range_test(e: Evidence) -> Remedy:
    lr = rate(e)
    low, high = (rounded(lr / 10), rounded(lr * 1000)) if lr is not None and lr > LEAST else (1e-6, 1.0)
    made = f"LambdaLR(optimizer, lambda t: {num(high / low)} ** (t / 200))"
    change = f"lr from {num(low)} to {num(high)} over 200 steps; take a third of where the loss falls fastest"
    code = f"{code_lines.optimizer(e, low)}; scheduler = {made}" if not e.style.hf_trainer else None
    code = None if e.style.lightning else code
    return Remedy("Search the learning rate", change, "smith-2017", treatments.LEARNING_RATE, code)


def rate_of_the_batch(e: Evidence) -> Remedy:
    """The linear scaling rule."""
    k = accumulated(e)
    many = f"{k} times" if k > 1 else "k times"
    change = f"averaged over {many} the batch, lr may grow up to {many}, after a warm-up"
    return Remedy("Scale lr with the batch", change, "goyal-2017", treatments.LEARNING_RATE)


def suspect_hardware(e: Evidence) -> Remedy:
    change = "the same steps on another device: a processor that computes wrongly does so again, and only there"
    return Remedy("Move to another machine", change, "dixit-2021")
