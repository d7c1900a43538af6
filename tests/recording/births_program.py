"""Trainings of three steps, each with one birth of a NaN or Inf at step 2; run by test_births.py in one process.

Prints one JSON object a case: what was expected, and the incidents that the recording filed. The expected line is the
one that ends in `#!`. Usage: python births_program.py SPOOL_OUTPUT [WATCH_STEP]
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
    os.environ["NANDOCTOR_WATCH_STEP"] = sys.argv[2]

from _nandoctor.recording.arm import arm  # noqa: E402
from _nandoctor.recording.autopsy.incidents import Alarms  # noqa: E402
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
    kept = {"recorder": recorder, "names": names, "thread": run.thread}
    fresh = Run.__new__(Run)
    for field in dataclasses.fields(Run):
        if field.name in kept:
            continue
        value = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        setattr(run, field.name, value)
    del fresh
    run.stale = True
    lines = alarms.lines
    lines.stop()
    lines.graphs = 0
    for held in (lines.known, alarms.singular, lines.noted, alarms.examined, weights.looked, weights.known):
        held.clear()
    alarms.filed, alarms.hazards = 0, []
    weights.bad_after_step = False


def case(phase, op, layer=None):
    def decorate(function):
        forget()
        torch.manual_seed(0)
        function()
        source, first = inspect.getsourcelines(function)
        lines = [first + number for number, text in enumerate(source) if text.rstrip().endswith("#!")]
        print(
            json.dumps(
                {
                    "case": function.__name__, "phase": phase, "op": op if isinstance(op, (tuple, list)) else [op],
                    "layer": layer, "lines": lines, "failed": sorted(run.recorder.guard.failed),
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
