import sys, json, warnings
sys.path.insert(0, "/work/main/benchmarks")
import numpy as np, torch
from sklearn.base import clone
from sklearn.datasets import *
from sklearn.model_selection import KFold, train_test_split
from sklearn.preprocessing import scale
from scipy.special import stdtrit
import crossfit
from crossfit import DATA_SETS, RowLosses
from skae import AutoencoderTransformer
from skae._callbacks import significant
torch.set_num_threads(1)
R = np.random.RandomState
D = {n: v[0] for n, v in DATA_SETS.items()}
D["t2 d4"] = lambda: R(1).standard_t(2, size=(200, 4))
D["t2 d20"] = lambda: R(2).standard_t(2, size=(200, 20))
D["t3 d8"] = lambda: R(3).standard_t(3, size=(150, 8))
D["lognormal"] = lambda: np.exp(R(4).randn(200, 6))
D["cauchy"] = lambda: R(5).standard_cauchy(size=(150, 6))
D["curve"] = lambda: (lambda t: np.c_[np.sin(3*t), np.cos(2*t), t, t**2, np.abs(t)] + .05*R(7).randn(200,5))(R(6).uniform(-1,1,200))
D["mixture"] = lambda: R(8).randn(120,10) + 3*R(9).randn(4,10)[R(10).randint(4,size=120)]
which = sys.argv[1].split(";") if sys.argv[1] != "all" else list(D)
n_seeds = int(sys.argv[2]); folds = int(sys.argv[3]); out = sys.argv[4]
stds = (False, True)
def rowerr(m, X): return ((X - m.inverse_transform(m.transform(X)))**2).sum(1)/m.scale_**2
def gains_by(est, X, seed, shared):
    g = []; vs = []
    P0 = clone(est).set_params(max_iter=0).fit(X); SC = P0.scale_**2; pall = torch.from_numpy(rowerr(P0, X)) / X.shape[1]
    pca = clone(est).set_params(max_iter=0)
    for tr, va in KFold(folds, shuffle=True, random_state=seed).split(X):
        pca.fit(X if shared else X[tr])
        # global mean, components of the fold: here as the fold's own
        L = RowLosses(torch.from_numpy((X[va]-pca.mean_)/pca.scale_).float())
        clone(est).set_params(early_stopping=False, max_iter=100, init=pca, callbacks=[L]).fit(X[tr])
        c = torch.stack(L.course)
        g.append((c[0]-c)*pca.scale_**2)
        vs.append(pall[va]*0+pall[va]*1 - c*pca.scale_**2/SC) 
    if shared: return torch.cat(g,1)
    return torch.cat(g, 1), torch.cat(vs, 1)
f = open(out, "a")
for name in which:
    for std in stds:
        X0 = D[name]()
        if std: X0 = scale(X0)
        for k in ((1,2) if name=="linnerud" else (2,4) if X0.shape[1] > 4 else (2,)):
            for seed in range(n_seeds):
                X, Xt = train_test_split(X0, test_size=.25, random_state=seed)
                est = AutoencoderTransformer(k, random_state=seed)
                pca = clone(est).set_params(max_iter=0).fit(X)
                r = dict(name=name, std=std, k=k, seed=seed, pca=pca.score(Xt))
                r["hold"] = clone(est).fit(X).score(Xt)
                p = torch.from_numpy(rowerr(pca, X))
                G = {}
                G["shared"] = gains_by(est, X, seed, True)
                G["own"], V = gains_by(est, X, seed, False)
                for tag in G:
                    g = G[tag]; b = int(g.mean(1).argmax())
                    r[tag] = dict(best=b, sig=bool(b and significant(g[b])), mean=g[b].mean().item(), other=G["shared" if tag=="own" else "own"][b].mean().item(), osig=bool(b and significant(G["shared"][b])),
                      neff=(g[b].abs().sum()**2/g[b].square().sum()).item() if b else 0,
                      t=(g[b].mean()/g[b].std()*len(p)**.5).item() if b else 0)
                    r[tag].update(va=V[b].mean().item(), vsig=bool(b and significant(V[b])), v_t=(V[b].mean()/V[b].std()*len(p)**.5).item() if b else 0)
                    m = clone(est).set_params(early_stopping=False, max_iter=b).fit(X)
                    q = p - torch.from_numpy(rowerr(m, X))
                    r[tag].update(score=m.score(Xt), gate=bool(b and significant(q)), tt=(q.mean()/q.std()*len(p)**.5).item() if b else 0, neff_t=(q.abs().sum()**2/q.square().sum()).item() if b else 0, pmax=(p.max()/p.sum()).item(),
                       pneff=(p.sum()**2/p.square().sum()).item(), snn=((X**2).sum(1).sum()**2/((X**2).sum(1)**2).sum()))
                f.write(json.dumps(r)+"\n"); f.flush()
