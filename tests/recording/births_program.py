"""Trainings of three steps, each with one birth of a NaN or Inf at step 2; run by test_births.py in one process.

Prints one JSON object a case: what was expected, and the incidents that the recording filed. The expected line is the
one that ends in `#!`. Usage: python births_program.py SPOOL_OUTPUT [watch|thin]
"""

import dataclasses
import inspect
import json
import math
import os
import sys
import types
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

PACKAGE = types.ModuleType("_nandoctor")  # as recording/inject does it
PACKAGE.__path__ = [str(Path(__file__).parents[2] / "nandoctor")]
sys.modules["_nandoctor"] = PACKAGE
os.environ["NANDOCTOR_OUTPUT"] = sys.argv[1]
if len(sys.argv) > 2:
    os.environ["NANDOCTOR_WHOLE_STEPS" if sys.argv[2] == "thin" else "NANDOCTOR_WATCH_STEP"] = "2"
os.environ["NANDOCTOR_BUDGET"] = "0.0001"  # no burst in a run of three steps

from _nandoctor.recording.arm import arm  # noqa: E402
from _nandoctor.recording.autopsy.incidents import Alarms  # noqa: E402
from _nandoctor.recording.governor import Governor  # noqa: E402
from _nandoctor.recording.probes.weights import Weights  # noqa: E402
from _nandoctor.recording.run import Run  # noqa: E402

parts = {}


def remember(owner):
    """The recording's own objects, so that each case begins with a fresh memory in the same process."""
    original = owner.__init__

    def init(self, *args, **kwargs):
        original(self, *args, **kwargs)
        parts[owner] = self
        parts[owner, "fresh"] = args, kwargs

    owner.__init__ = init


remember(Alarms)
remember(Weights)
run = arm()
alarms, weights = parts[Alarms], parts[Weights]
incidents = []
run.recorder.incident = incidents.append


def forget():
    incidents.clear()
    names, recorder = run.names, run.recorder
    names.models.clear()
    names._layers.clear()
    names.several = False
    recorder.step = recorder.batch = recorder.micro = 0
    kept = {"recorder": recorder, "names": names, "thread": run.thread, "hooks": run.hooks, "reads": run.reads}
    for field in dataclasses.fields(Run):
        if field.name in kept:
            continue
        value = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        setattr(run, field.name, value)
    governor = recorder.governor
    governor._set(True)
    fresh = Governor(recorder.settings, governor.spent)
    fresh.changed = governor.changed
    governor.__dict__.update(fresh.__dict__)
    run.stale = True
    lines = alarms.lines
    lines.stop()
    lines.graphs = 0
    for held in (lines.known, alarms.graphs.singular, lines.noted, alarms.examined, weights.known, alarms.graphs.recall.shapes):
        held.clear()
    alarms.filed, alarms.graphs.hazards = 0, []
    weights.bad_after_step = False


def case(phase, op, layer=None):
    def decorate(function):
        forget()
        torch.manual_seed(0)
        function()
        alarms.weights_at_the_end()
        source, first = inspect.getsourcelines(function)
        lines = [first + number for number, text in enumerate(source) if text.rstrip().endswith("#!")]
        print(
            json.dumps(
                {
                    "case": function.__name__, "phase": phase, "op": op if isinstance(op, (tuple, list)) else [op],
                    "layer": layer if isinstance(layer, tuple) else [layer], "lines": lines, "failed": sorted(run.recorder.guard.failed),
                    "incidents": [incident.as_note() for incident in incidents],
                }, default=str,
            ), flush=True,
        )  # fmt: skip
        return function

    return decorate


def train(net, loss_fn, n=3, lr=0.01, make=None):
    opt = torch.optim.SGD(net.parameters(), lr=lr)
    for i in range(n):
        x = torch.randn(8, 6) if make is None else make(i)
        opt.zero_grad()
        loss = loss_fn(net, x, i)
        loss.backward()
        opt.step()


class MLP(nn.Module):
    def __init__(self, fn=None):
        super().__init__()
        self.a = nn.Linear(6, 16)
        self.b = nn.Linear(16, 4)
        self.fn = fn

    def forward(self, x, i=0):
        h = self.a(x)
        if self.fn is not None:
            h = self.fn(h, i)
        return self.b(torch.tanh(h))


def L(value):
    return value


def zero(i): return 0.0 if i==2 else 1.0
@case('loss','log')
def log_zero():
    def f(net,x,i):
        p=torch.sigmoid(net(x))*zero(i)
        return -torch.log(p).mean() #!
    train(MLP(),f)
@case('loss','log')
def log_method():
    def f(net,x,i):
        p=F.softmax(net(x),1)
        p=p*zero(i)
        return -(p.log()).mean() #!
    train(MLP(),f)
@case('loss','div')
def div0():
    def f(net,x,i):
        m=net(x).abs().mean(0)*zero(i)
        return ((net(x)+1)/m).mean() #!
    train(MLP(),f)
@case('loss','div')
def zero_over_zero():
    def f(net,x,i):
        w=torch.full((8,),zero(i))
        num=(net(x).pow(2).sum(1)*w).sum()
        return num/w.sum() #!
    train(MLP(),f)
@case('loss','sqrt')
def sqrt_neg():
    def f(net,x,i):
        y=net(x)
        v=(y**2).mean()-(100.0 if i==2 else 0.0)
        return torch.sqrt(v) #!
    train(MLP(),f)
@case('loss','exp')
def exp_over():
    def f(net,x,i):
        y=net(x)*(1e4 if i==2 else 1)
        e=torch.exp(y) #!
        return e.mean()
    train(MLP(),f)
@case('loss','pow')
def powneg():
    def f(net,x,i):
        y=net(x)-(100 if i==2 else -100)
        return (y**0.5).mean() #!
    train(MLP(),f)
@case('backward','log','')
def log_squashed_by_tanh_again():
    def fn(h,i): 
        s=torch.softmax(h,1)*zero(i)
        return s.log() #!
    train(MLP(fn), lambda n,x,i: n(x,i).pow(2).mean())
@case('forward','softmax','')
def masked():
    def fn(h,i):
        m=torch.zeros(8,16,dtype=torch.bool)
        m[:,3:]=True
        if i==2: m[5]=True
        h=h.masked_fill(m,float('-inf'))
        return torch.softmax(h,-1) #!
    train(MLP(fn), lambda n,x,i: n(x,i).pow(2).mean())
@case('forward','softmax','')
def masked_add():
    def fn(h,i):
        m=torch.zeros(8,16)
        m[:,3:]=float('-inf')
        if i==2: m[5]=float('-inf')
        h=h+m
        return F.softmax(h,dim=-1) #!
    train(MLP(fn), lambda n,x,i: n(x,i).pow(2).mean())
@case('forward','softmax','')
def masked_where():
    def fn(h,i):
        m=torch.ones(8,16,dtype=torch.bool)
        if i==2: m[5]=False
        h=torch.where(m,h,torch.tensor(float('-inf')))
        return h.softmax(-1) #!
    train(MLP(fn), lambda n,x,i: n(x,i).pow(2).mean())
@case('forward','std','')
def std_one():
    def fn(h,i):
        if i==2: h=h[:1]
        return (h-h.mean(0))/h.std(0) #!
    train(MLP(fn), lambda n,x,i: n(x,i).pow(2).mean())
@case('forward','linear','b')
def half_over():
    class N(nn.Module):
        def __init__(self):
            super().__init__(); self.a=nn.Linear(6,16); self.b=nn.Linear(16,4)
        def forward(self,x,i):
            with torch.autocast('cpu',dtype=torch.float16):
                h=torch.relu(self.a(x))
                h=h*(50000. if i==2 else 1.)
                h=h.clamp(max=60000)
                return self.b(h) #!
    n=N(); n.b.weight.data.fill_(2.)
    train(n, lambda n,x,i: n(x,i).float().pow(2).mean(), lr=1e-9)
@case('forward','matmul','')
def scores_half():
    class N(nn.Module):
        def __init__(self):
            super().__init__(); self.q=nn.Linear(6,16); self.k=nn.Linear(6,16)
        def forward(self,x,i):
            with torch.autocast('cpu',dtype=torch.float16):
                q=self.q(x)*(300 if i==2 else 1); k=self.k(x)*(300 if i==2 else 1)
                s=q@k.transpose(0,1) #!
                return torch.softmax(s,-1)
    train(N(), lambda n,x,i: n(x,i).float().pow(2).mean())
@case('backward','sqrt')
def sqrt_back():
    def f(net,x,i):
        y=net(x)
        d=(y-y.detach()*(1.0 if i==2 else 0.0))
        return torch.sqrt((d**2).sum(1)).mean() #!
    train(MLP(),f)
@case('backward','sqrt','')
def sqrt_back_forward():
    def fn(h,i):
        d=h-h*(1 if i==2 else 0)
        return h+(d*d).sum(1,keepdim=True).sqrt() #!
    train(MLP(fn), lambda n,x,i: n(x,i).pow(2).mean())
@case('backward','acos')
def acos_back():
    def f(net,x,i):
        y=F.normalize(net(x),dim=1)
        c=(y*y).sum(1) if i==2 else (y*y.roll(1,0)).sum(1)*0.5
        c=c.clamp(-1,1)
        return torch.acos(c).mean() #!
    train(MLP(),f)
@case('backward','log')
def where_trap():
    def f(net,x,i):
        y=net(x)
        y=y-y*(1 if i==2 else 0)
        l=torch.log(y) #!
        return torch.where(y>0,l,y).sum()
    train(MLP(),f,n=4)
@case('backward','div')
def where_div():
    def f(net,x,i):
        y=net(x)
        d=y*(0. if i==2 else 1.)
        r=1.0/d #!
        return torch.where(d!=0,r,d).abs().clamp(max=5).mean()
    train(MLP(),f,n=4)
@case('backward','eigh')
def eigh_eq():
    def f(net,x,i):
        y=net(x)
        c=y.T@y*(0. if i==2 else 1.)+torch.eye(4)
        w,v=torch.linalg.eigh(c) #!
        return (v[0]**2).sum()+w.sum()
    train(MLP(),f)
@case('input',None)
def nan_target():
    def f(net,x,i):
        t=torch.zeros(8,4)
        if i==2: t[3,1]=float('nan')
        return ((net(x)-t)**2).mean()
    train(MLP(),f)
@case('input',None)
def nan_target_mse():
    def f(net,x,i):
        t=torch.zeros(8,4)
        if i==2: t[3,1]=float('nan')
        return F.mse_loss(net(x),t)
    train(MLP(),f)
@case('input',None)
def nan_in():
    def mk(i):
        x=torch.randn(8,6)
        if i==2: x[4,2]=float('nan')
        return x
    train(MLP(),lambda n,x,i:n(x).pow(2).mean(),make=mk)
@case('weights',None,'b')
def nan_w():
    n=MLP(); n.b.weight.data[1,1]=float('nan')
    train(n,lambda n,x,i:n(x).pow(2).mean())
@case('weights',None,'a')
def foreign():
    n=MLP()
    def f(n,x,i):
        if i==2: n.a.bias.data[0]=float('inf')
        return n(x).pow(2).mean()
    train(n,f)
@case('optimizer','Adam','a')
def eps0():
    n=MLP(lambda h,i: h*0)
    opt=torch.optim.Adam(n.parameters(),eps=0.)
    for i in range(3):
        opt.zero_grad(); n(torch.randn(8,6)).pow(2).mean().backward()
        opt.step() #!
@case('loss','cross_entropy')
def ce_ignored():
    def f(net,x,i):
        t=torch.full((8,),-100 if i==2 else 1)
        return F.cross_entropy(net(x),t) #!
    train(MLP(),f)
@case('loss','cross_entropy')
def ce_ignored_mod():
    crit=nn.CrossEntropyLoss()
    def f(net,x,i):
        t=torch.full((8,),-100 if i==2 else 1)
        return crit(net(x),t) #!
    train(MLP(),f)
@case('loss','mse_loss')
def mse_over():
    crit=nn.MSELoss()
    def f(net,x,i):
        y=net(x)*(1e25 if i==2 else 1)
        return crit(y,torch.zeros(8,4)) #!
    train(MLP(),f)
@case('loss','log')
def guard_continue():
    net=MLP(); opt=torch.optim.SGD(net.parameters(),lr=.01)
    for i in range(4):
        x=torch.randn(8,6)
        p=torch.sigmoid(net(x))*zero(i)
        loss=-torch.log(p).mean() #!
        if torch.isnan(loss) or torch.isinf(loss):
            continue
        opt.zero_grad(); loss.backward(); opt.step()
@case('loss','log')
def guard_fn():
    net=MLP(); opt=torch.optim.SGD(net.parameters(),lr=.01)
    def compute(i):
        x=torch.randn(8,6)
        p=torch.sigmoid(net(x))*zero(i)
        return -torch.log(p).mean() #!
    def stepper(i):
        if not torch.isfinite(L(compute(i))).all(): return None
    for i in range(4):
        loss=compute(i)
        if not math.isfinite(float(loss)): continue
        opt.zero_grad(); loss.backward(); opt.step()
@case('loss','log')
def guard_compare():
    net=MLP(); opt=torch.optim.SGD(net.parameters(),lr=.01)
    for i in range(5):
        x=torch.randn(8,6)
        p=torch.sigmoid(net(x))*zero(i)
        loss=-torch.log(p).mean() #!
        if loss > 1e6 or loss!=loss:
            continue
        opt.zero_grad(); loss.backward(); opt.step()
@case('backward','sqrt')
def guard_grad():
    net=MLP(); opt=torch.optim.SGD(net.parameters(),lr=.01)
    for i in range(5):
        x=torch.randn(8,6)
        y=net(x)
        d=(y-y.detach()*(1.0 if i==2 else 0.0))
        loss=torch.sqrt((d**2).sum(1)).mean() #!
        opt.zero_grad()
        loss.backward()
        if any(torch.isnan(p.grad).any() for p in net.parameters()): continue
        opt.step()
@case(None,None)
def masked_nan_ok():
    def f(net,x,i):
        y=net(x)
        with torch.no_grad(): z=(y*0/0)
        m=torch.zeros(8,4,dtype=torch.bool)
        return y.masked_fill(m,float('-inf')).softmax(1).pow(2).sum()
    train(MLP(),f)
@case('forward',('softmax','multi_head_attention_forward'),'att')
def mha():
    class N(nn.Module):
        def __init__(self):
            super().__init__(); self.att=nn.MultiheadAttention(8,2,batch_first=True); self.o=nn.Linear(8,2)
        def forward(self,x,m):
            y,_=self.att(x,x,x,key_padding_mask=m) #!
            return self.o(y)
    def f(n,x,i):
        m=torch.zeros(4,5,dtype=torch.bool)
        if i==2: m[1]=True
        return n(torch.randn(4,5,8),m).pow(2).mean()
    train(N(),f)
@case('forward','log','enc')
def nested():
    class E(nn.Module):
        def __init__(self): super().__init__(); self.l=nn.Linear(6,6)
        def forward(self,x,i):
            h=F.relu(self.l(x))*zero(i)
            return torch.log(h+ (0 if i==2 else 1)) #!
    class N(nn.Module):
        def __init__(self): super().__init__(); self.enc=E(); self.o=nn.Linear(6,2)
        def forward(self,x,i): return self.o(self.enc(x,i))
    train(N(),lambda n,x,i:n(x,i).pow(2).mean())
@case('loss','norm')
def cos():
    def f(net,x,i):
        y=net(x)*(1e25 if i==2 else 1)
        return y.norm() if i<0 else torch.linalg.norm(y) #!
    train(MLP(),f)
@case('loss',('kl_div','log','div','xlogy'))
def kl():
    def f(net,x,i):
        q=F.softmax(net(x),1)*zero(i)
        t=torch.full((8,4),.25)
        return (t*(t/q).log()).sum() #!
    train(MLP(),f)
@case('loss','mean')
def mean_empty():
    def f(net,x,i):
        y=net(x).pow(2).sum(1)
        k=torch.ones(8,dtype=torch.bool) if i<2 else torch.zeros(8,dtype=torch.bool)
        return y[k].mean() #!
    train(MLP(),f)
@case('loss','gaussian_nll_loss')
def gnll():
    def f(net,x,i):
        y=net(x); v=y[:,1:2].exp()*(0 if i==2 else 1)
        return F.gaussian_nll_loss(y[:,:1],torch.zeros(8,1),v*0+ (float(1) if i<2 else 1),eps=1e-6)*1/(zero(i)) if i<0 else F.gaussian_nll_loss(y[:,:1]*(1e30 if i==2 else 1),torch.zeros(8,1),v+1) #!
    train(MLP(),f)
@case('loss','reciprocal')
def recip():
    def f(net,x,i):
        y=net(x).abs()*zero(i)
        return torch.reciprocal(y).mean() #!
    train(MLP(),f)
@case('loss','rsqrt')
def rsq():
    def f(net,x,i):
        y=net(x).pow(2).mean(1)*zero(i)
        return (y.rsqrt()).mean() #!
    train(MLP(),f)
@case('loss','sum')
def sumover():
    def f(net,x,i):
        y=net(x).abs()*(1e38 if i==2 else 1.)+ (3e38 if i==2 else 0)
        y=y.clamp(max=3.3e38)
        return y.sum() #!
    train(MLP(),f)
@case('loss','logsumexp')
def lse():
    def f(net,x,i):
        y=net(x)
        if i==2: y=y.masked_fill(torch.ones(8,4,dtype=torch.bool),float('-inf'))
        return torch.logsumexp(y,1).mean() #!
    train(MLP(),f)


def step2(i, a, b):
    """a at the step of the birth, b else"""
    return a if i == 2 else b


class Mod(nn.Module):
    """A function as a module."""

    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, *args):
        return self.fn(*args)


@case("loss", "log")
def in_place_log():
    def f(net, x, i):
        p = net(x).sigmoid() * zero(i)
        p.log_()  #!
        return -p.mean()

    train(MLP(), f)


@case("loss", "div")
def in_place_div():
    def f(net, x, i):
        y = net(x) + 1
        y /= net(x).abs().sum(1, keepdim=True) * zero(i)  #!
        return y.mean()

    train(MLP(), f)


@case("loss", "einsum")
def einsum_overflow():
    def f(net, x, i):
        y = net(x) * step2(i, 1e20, 1.0)
        return torch.einsum("bi,bj->bij", y, y).mean()  #!

    train(MLP(), f)


@case("loss", "div")
def scatter_mean_of_no_neighbours():
    def f(net, x, i):
        y = net(x)
        index = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]) if i != 2 else torch.tensor([0, 0, 1, 1, 2, 2, 2, 2])
        total = torch.zeros(4, 4).index_add(0, index, y)
        count = torch.zeros(4).index_add(0, index, torch.ones(8))
        return (total / count[:, None]).pow(2).mean()  #!

    train(MLP(), f)


@case("loss", "div")
def masked_mean_of_nothing():
    def f(net, x, i):
        y = net(x).pow(2).sum(1)
        mask = torch.ones(8) if i != 2 else torch.zeros(8)
        loss = (y * mask).sum() / mask.sum()  #!
        return loss

    train(MLP(), f)


@case("loss", ("pow", "reciprocal"))
def negative_power_of_zero():
    def f(net, x, i):
        y = net(x).abs() * zero(i)
        return (y**-1).mean()  #!

    train(MLP(), f)


@case("loss", "pow")
def scalar_to_a_large_power():
    def f(net, x, i):
        y = net(x) * step2(i, 1e4, 1.0)
        return (2.0**y).mean()  #!

    train(MLP(), f)


@case("loss", "log2")
def log2_of_zero():
    def f(net, x, i):
        return torch.log2(net(x).relu() * zero(i) + (1 - abs(step2(i, 1, 0)))).mean()  #!

    train(MLP(), f)


@case("loss", "log1p")
def log1p_of_minus_one():
    def f(net, x, i):
        y = torch.tanh(net(x)) * 0.5
        y = y * 0 - 1 if i == 2 else y
        return torch.log1p(y).mean()  #!

    train(MLP(), f)


@case("loss", "logit")
def logit_of_one():
    def f(net, x, i):
        p = torch.sigmoid(net(x) * step2(i, 1e4, 1.0))
        return torch.logit(p).mean()  #!

    train(MLP(), f)


@case("loss", "atanh")
def atanh_of_one():
    def f(net, x, i):
        t = torch.tanh(net(x) * step2(i, 1e4, 0.1))
        return t.atanh().mean()  #!

    train(MLP(), f)


@case("loss", "acos")
def acos_beyond_one():
    def f(net, x, i):
        c = torch.tanh(net(x)) * step2(i, 2.0, 0.5)
        c = c + step2(i, 1.5, 0.0)
        return torch.acos(c).mean()  #!

    train(MLP(), f)


@case("loss", "cumprod")
def cumprod_overflow():
    def f(net, x, i):
        y = net(x).abs() * step2(i, 1e15, 1.0) + step2(i, 1e12, 0.0)
        return y.cumprod(1).mean()  #!

    train(MLP(), f)


@case("loss", "prod")
def prod_overflow():
    def f(net, x, i):
        y = net(x).abs() * step2(i, 1e15, 1.0) + step2(i, 1e12, 0.0)
        return y.prod(1).mean()  #!

    train(MLP(), f)


@case("loss", "var")
def var_of_one():
    def f(net, x, i):
        y = net(x)[: step2(i, 1, 8)]
        return y.var(0).mean()  #!

    train(MLP(), f)


@case("loss", "div")
def layer_norm_by_hand_of_a_constant_row():
    def f(net, x, i):
        y = net(x)
        y = y * 0 + 3.0 if i == 2 else y
        centred = y - y.mean(1, keepdim=True)
        spread = (centred**2).mean(1, keepdim=True)
        return (centred / (spread + 0.0)).pow(2).mean()  #!

    train(MLP(), f)


@case("loss", ("div", "normalize"))
def cosine_by_hand_of_a_zero_vector():
    def f(net, x, i):
        y = net(x) * zero(i)
        unit = y / y.norm(dim=1, keepdim=True)  #!
        return (unit @ unit.T).mean()

    train(MLP(), f)


@case("loss", "bmm")
def bmm_overflow():
    def f(net, x, i):
        y = (net(x) * step2(i, 1e20, 1.0)).view(2, 4, 4)
        return torch.bmm(y, y.transpose(1, 2)).mean()  #!

    train(MLP(), f)


@case("forward", "conv2d", "c2")
def conv_overflow_in_half():
    class N(nn.Module):
        def __init__(self):
            super().__init__()
            self.c1 = nn.Conv2d(1, 4, 3, padding=1)
            self.c2 = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x, i):
            with torch.autocast("cpu", dtype=torch.float16):
                h = F.relu(self.c1(x), inplace=True)
                h = (h * step2(i, 6e4, 1.0)).clamp(max=6e4)
                h = self.c2(h)  #!
                return h

    n = N()
    n.c2.weight.data.fill_(0.5)
    train(n, lambda n, x, i: n(x, i).float().pow(2).mean(), make=lambda i: torch.randn(4, 1, 6, 6), lr=1e-9)


@case("loss", "exp")
def contrastive_exp_overflow():
    def f(net, x, i):
        z = F.normalize(net(x), dim=1)
        sim = z @ z.T / step2(i, 1e-3, 0.5)
        e = torch.exp(sim)  #!
        return -torch.log(e.diagonal() / e.sum(1)).mean()

    train(MLP(), f)


@case("loss", ("div", "mul", "sub", "pow"))
def gaussian_nll_by_hand():
    def f(net, x, i):
        y = net(x)
        mean, logvar = y[:, :2], y[:, 2:]
        var = logvar.exp() * zero(i)
        return ((torch.zeros(8, 2) - mean) ** 2 / var + 1.0).mean()  #!

    train(MLP(), f)


@case("forward", "exp", "")
def reparametrise_overflow():
    class VAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc = nn.Linear(6, 8)
            self.dec = nn.Linear(4, 6)

        def forward(self, x, i):
            mu, logvar = self.enc(x).chunk(2, 1)
            logvar = logvar * step2(i, 1e4, 1.0)
            std = torch.exp(0.5 * logvar)  #!
            return self.dec(mu + std * torch.randn_like(std))

    train(VAE(), lambda n, x, i: (n(x, i) - x).pow(2).mean())


@case("forward", "div", "")
def loss_inside_forward():
    class N(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 4)

        def forward(self, x, i):
            y = self.a(x)
            w = torch.ones(8) * zero(i)
            loss = (y.pow(2).mean(1) * w).sum() / w.sum()  #!
            return {"logits": y, "loss": loss}

    train(N(), lambda n, x, i: n(x, i)["loss"])


@case("loss", "sqrt")
def no_module_at_all():
    w = [torch.nn.Parameter(torch.randn(6, 4)), torch.nn.Parameter(torch.zeros(4))]
    opt = torch.optim.Adam(w, lr=0.01)
    for i in range(3):
        opt.zero_grad()
        y = torch.randn(8, 6) @ w[0] + w[1]
        v = y.pow(2).mean() - step2(i, 1e3, 0.0)
        loss = v.sqrt()  #!
        loss.backward()
        opt.step()


@case("forward", "log", "parts.1")
def inside_a_sequential():
    net = nn.Module()
    net.parts = nn.Sequential(nn.Linear(6, 6), Mod(lambda h: torch.log(h * flag[0] + (1 - flag[0]) * 0 + flag[1])), nn.Linear(6, 2))
    flag = [1e-3, 2.0]

    def f(n, x, i):
        flag[:] = [0.0, 0.0] if i == 2 else [1e-3, 2.0]
        return n.parts(x).pow(2).mean()

    train(net, f)


@case("forward", "softmax", "blocks.1.attn")
def attention_in_the_second_block():
    class Attn(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(8, 24)

        def forward(self, x, mask):
            q, k, v = self.qkv(x).chunk(3, -1)
            s = q @ k.transpose(-2, -1) / 8**0.5
            s = s.masked_fill(~mask[:, None, :], float("-inf"))
            a = torch.softmax(s, dim=-1)  #!
            return a @ v

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn = Attn()
            self.ff = nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, 8))

        def forward(self, x, mask):
            x = x + self.attn(x, mask)
            x = x + self.ff(x)
            return x

    class N(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([Block(), Block()])

        def forward(self, x, i):
            mask = torch.ones(4, 5, dtype=torch.bool)
            for n, block in enumerate(self.blocks):
                m = mask.clone()
                if i == 2 and n == 1:
                    m[3] = False
                x = block(x, m)
            return x

    train(N(), lambda n, x, i: n(x, i).pow(2).mean(), make=lambda i: torch.randn(4, 5, 8))


@case("forward", "linear", "cell")
def shared_module_called_often():
    class N(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.Linear(6, 6)

        def forward(self, x, i):
            for _ in range(step2(i, 80, 3)):
                x = self.cell(x)  #!
            return x

    n = N()
    n.cell.weight.data.copy_(torch.eye(6) * 4)
    train(n, lambda n, x, i: n(x, i).clamp(-1, 1).pow(2).mean() if i < 2 else n(x, i).mean(), lr=0.0)


@case("backward", ("pow", "sqrt"))
def power_of_a_half_at_zero():
    def f(net, x, i):
        y = net(x)
        y = y * 0 if i == 2 else y.abs() + 1
        return (y**0.5).mean()  #!

    train(MLP(), f)


@case(None, None)
def atan2_at_the_origin_is_finite_in_this_torch():
    def f(net, x, i):
        y = net(x) * zero(i)
        return torch.atan2(y[:, 0], y[:, 1]).mean()  #!

    train(MLP(), f)


@case("backward", "div")
def zero_divisor_behind_where():
    def f(net, x, i):
        y = net(x)
        n = y.pow(2).sum(1) * zero(i)
        safe = torch.where(n > 0, y.sum(1) / n, torch.zeros_like(n))  #!
        return safe.clamp(-1, 1).mean()

    train(MLP(), f)


@case("backward", "exp")
def exp_overflow_behind_where():
    def f(net, x, i):
        y = net(x) * step2(i, 1e4, 1.0)
        elu = torch.where(y > 0, y.clamp(max=1), torch.exp(y) - 1)  #!
        return elu.mean()

    train(MLP(), f)


@case("input", None)
def bad_mask_weights_in_a_dict():
    def f(net, b, i):
        return (net(b["x"]) * b["w"][:, None]).pow(2).mean()

    def make(i):
        b = {"x": torch.randn(8, 6), "w": torch.ones(8)}
        if i == 2:
            b["w"][3] = float("nan")
        return b

    train(MLP(), f, make=make)


@case("input", None)
def inf_in_the_input():
    def make(i):
        x = torch.randn(8, 6)
        if i == 2:
            x[1, 5] = float("inf")
        return x

    train(MLP(), lambda n, x, i: n(x).pow(2).mean(), make=make)


@case("input", None)
def nan_input_to_a_convolution_with_batch_norm():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 2))

    def make(i):
        x = torch.randn(8, 1, 6, 6)
        if i == 2:
            x[4, 0, 2, 3] = float("nan")
        return x

    train(net, lambda n, x, i: n(x).pow(2).mean(), make=make)


@case("input", None)
def nan_input_to_an_lstm():
    class N(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(6, 8, batch_first=True)
            self.o = nn.Linear(8, 1)

        def forward(self, x):
            h, _ = self.rnn(x)
            return self.o(h[:, -1])

    def make(i):
        x = torch.randn(8, 5, 6)
        if i == 2:
            x[2, 3, 1] = float("nan")
        return x

    train(N(), lambda n, x, i: n(x).pow(2).mean(), make=make)


@case("weights", "load_state_dict", "b")
def load_state_dict_of_nan():
    n = MLP()
    state = {k: v.clone() for k, v in n.state_dict().items()}
    state["b.bias"][0] = float("nan")

    def f(n, x, i):
        if i == 2:
            n.load_state_dict(state)  #!
        return n(x).pow(2).mean()

    try:
        train(n, f)
    finally:
        pass


@case("loss", "log")
def guard_that_raises():
    net = MLP()
    opt = torch.optim.SGD(net.parameters(), lr=0.01)
    try:
        for i in range(4):
            p = torch.sigmoid(net(torch.randn(8, 6))) * zero(i)
            loss = -torch.log(p).mean()  #!
            if not torch.isfinite(loss):
                raise FloatingPointError("loss")
            opt.zero_grad()
            loss.backward()
            opt.step()
    except FloatingPointError:
        pass


@case("loss", "log")
def guard_on_a_python_number():
    import math

    net = MLP()
    opt = torch.optim.SGD(net.parameters(), lr=0.01)
    for i in range(4):
        p = torch.sigmoid(net(torch.randn(8, 6))) * zero(i)
        loss = -torch.log(p).mean()  #!
        value = loss.item()
        if math.isnan(value) or math.isinf(value):
            break
        opt.zero_grad()
        loss.backward()
        opt.step()


@case("loss", "log")
def guard_with_numpy():
    import numpy as np

    net = MLP()
    opt = torch.optim.SGD(net.parameters(), lr=0.01)
    for i in range(4):
        p = torch.sigmoid(net(torch.randn(8, 6))) * zero(i)
        loss = -torch.log(p).mean()  #!
        if not np.isfinite(loss.detach().cpu().numpy()):
            continue
        opt.zero_grad()
        loss.backward()
        opt.step()


@case("forward", "log", "")
def guard_on_the_output():
    class N(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 4)

        def forward(self, x, i):
            return torch.log(torch.sigmoid(self.a(x)) * zero(i))  #!

    net = N()
    opt = torch.optim.SGD(net.parameters(), lr=0.01)
    for i in range(4):
        out = net(torch.randn(8, 6), i)
        if torch.isnan(out).any() or torch.isinf(out).any():
            continue
        opt.zero_grad()
        out.mean().backward()
        opt.step()


@case(None, None)
def large_negative_masks_are_fine():
    def f(net, x, i):
        y = net(x)
        y = y + torch.triu(torch.full((8, 4), float("-inf")), 1)
        return torch.logsumexp(y, 1).mean() + F.cross_entropy(y, torch.zeros(8, dtype=torch.long))

    train(MLP(), f)


@case(None, None)
def nan_in_a_logged_value_is_fine():
    def f(net, x, i):
        y = net(x)
        with torch.no_grad():
            ratio = (y * 0).sum() / 0
        str(ratio)
        float(ratio)
        return y.pow(2).mean()

    train(MLP(), f)


@case(None, None)
def double_where_is_fine():
    def f(net, x, i):
        y = net(x) * zero(i)
        safe = torch.where(y > 0, y, torch.ones_like(y))
        return torch.where(y > 0, safe.log(), torch.zeros_like(y)).mean()

    train(MLP(), f)


@case("forward", "scaled_dot_product_attention", "")
def sdpa_overflow_in_half():
    class N(nn.Module):
        def __init__(self):
            super().__init__()
            self.q = nn.Linear(6, 8)

        def forward(self, x, i):
            q = self.q(x)[None] * step2(i, 1e20, 1.0)
            return F.scaled_dot_product_attention(q, q, q)  #!

    train(N(), lambda n, x, i: n(x, i).pow(2).mean())


@case("loss", "mse_loss")
def overflow_of_a_float64_cast_to_half():
    def f(net, x, i):
        y = net(x).half() * step2(i, 6e4, 1.0)
        y = y.clamp(-6e4, 6e4)
        return F.mse_loss(y, torch.zeros(8, 4, dtype=torch.half))  #!

    train(MLP(), f)


@case("forward", "log", "mlp.act")
def checkpointed_block():
    from torch.utils.checkpoint import checkpoint

    class Act(nn.Module):
        def forward(self, h):
            return torch.log(h.sigmoid() * flag[0])  #!

    flag = [1.0]

    class N(nn.Module):
        def __init__(self):
            super().__init__()
            self.mlp = nn.Sequential()
            self.mlp.add_module("lin", nn.Linear(6, 6))
            self.mlp.add_module("act", Act())
            self.o = nn.Linear(6, 1)

        def forward(self, x, i):
            flag[0] = zero(i)
            return self.o(checkpoint(self.mlp, x, use_reentrant=False))

    train(N(), lambda n, x, i: n(x, i).pow(2).mean())


@case("loss", "std")
def advantages_of_one_episode_without_a_graph():
    net = MLP()
    opt = torch.optim.SGD(net.parameters(), lr=0.01)
    for i in range(3):
        x = torch.randn(step2(i, 1, 8), 6)
        returns = x.sum(1)
        adv = (returns - returns.mean()) / (returns.std() + 1e-8)  #!
        loss = -(F.log_softmax(net(x), 1)[:, 0] * adv).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()


@case("loss", "div")
def class_weights_of_an_absent_class():
    net = MLP()
    opt = torch.optim.SGD(net.parameters(), lr=0.01)
    for i in range(3):
        y = torch.arange(8) % step2(i, 3, 4)
        counts = torch.bincount(y, minlength=4).float()
        weights = counts.sum() / counts  #!
        each = F.one_hot(y, 4).float() @ weights
        loss = (F.cross_entropy(net(torch.randn(8, 6)), y, reduction="none") * each).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()


@case("input", None)
def inf_target_subtracted_by_hand():
    net = MLP()
    opt = torch.optim.SGD(net.parameters(), lr=0.01)
    for i in range(3):
        target = torch.zeros(8, 4)
        if i == 2:
            target[5, 1] = float("inf")
        loss = (target - net(torch.randn(8, 6))).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()


@case("forward", "log", "")
def log_inside_a_checkpointed_function():
    from torch.utils.checkpoint import checkpoint

    class N(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 6)
            self.o = nn.Linear(6, 1)

        def forward(self, x, i):
            return self.o(checkpoint(lambda h: torch.log(torch.tanh(self.a(h)) * zero(i)), x, use_reentrant=False))

    n = N()
    train(n, lambda n, x, i: n(x, i).pow(2).mean() if i == 2 else n.a(x).pow(2).mean())


@case("backward", (None, "broken"), (None, ""))
def custom_function_with_a_bad_backward_is_no_layers_fault():
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return g / flag[0]

    flag = [1.0]

    class N(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 6)
            self.o = nn.Linear(6, 1)

        def forward(self, x):
            return self.o(Broken.apply(self.a(x)))

    def f(n, x, i):
        flag[0] = zero(i)
        return n(x).pow(2).mean()

    train(N(), f)


def one_layer(width):
    net = nn.Linear(6, width)
    return net, torch.optim.SGD(net.parameters(), lr=0.01)


@case("loss", "std", None)
def spread_of_one_reward_in_a_helper():
    def spread(values):
        return (values - values.mean()) / (values.std() + 1e-6)  #!

    net, opt = one_layer(4)
    for i in range(3):
        rows = torch.randn(1 if i == 2 else 8, 6)
        rewards = [float(row[0]) for row in rows]
        gain = spread(torch.tensor(rewards))
        loss = -(net(rows).log_softmax(1)[:, 0] * gain).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()


@case("loss", "softmax", None)
def no_legal_move_in_a_target_without_a_graph():
    net, opt = one_layer(4)
    target, _ = one_layer(4)

    def bootstrap(rows, legal):
        with torch.no_grad():
            values = target(rows)
            return (values.masked_fill(~legal, -math.inf).softmax(1) * values).sum(1)  #!

    for i in range(3):
        rows, legal = torch.randn(8, 6), torch.ones(8, 4, dtype=torch.bool)
        legal[:, 0] = False
        if i == 2:
            legal[3] = False
        loss = F.smooth_l1_loss(net(rows)[:, 0], 0.9 * bootstrap(rows, legal))
        opt.zero_grad()
        loss.backward()
        opt.step()


@case("forward", "square", "")
def a_square_in_half_without_a_graph_inside_of_the_model():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(7, 2)

        def forward(self, x):
            energy = x.half().square().float().mean(1, keepdim=True)  #!
            return self.layer(torch.cat([x, energy], 1))

    net = Net()
    opt = torch.optim.SGD(net.parameters(), lr=0.01)
    for i in range(3):
        rows = torch.randn(8, 6) * (1000 if i == 2 else 1)
        loss = net(rows).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()


@case("loss", "softmax", None)
def a_masked_row_that_the_loss_leaves_out():
    w = torch.randn(6, 6, requires_grad=True)
    opt = torch.optim.SGD([w], lr=0.01)
    for i in range(3):
        hidden = torch.zeros(8, 6, dtype=torch.bool)
        labels = torch.randint(0, 6, (8,))
        if i == 2:
            hidden[3], labels[3] = True, -100
        share = torch.softmax((torch.randn(8, 6) @ w).masked_fill(hidden, -math.inf), 1)  #!
        loss = F.cross_entropy(share @ w, labels)
        opt.zero_grad()
        loss.backward()
        opt.step()
