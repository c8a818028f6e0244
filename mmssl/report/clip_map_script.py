"""Style and script of the map of clips, constants that go into the page as they are."""

CSS = """
.tools,.legend{display:flex;flex-wrap:wrap;gap:.4rem .5rem;align-items:center;margin:.2rem 0 .6rem}
.tools button,.legend button,#near button,.tools input{font:inherit;font-size:.9rem;color:var(--ink);
background:var(--soft);border:1px solid var(--rule);border-radius:6px;padding:.25rem .6rem;min-height:2rem}
.tools input{background:var(--bg);width:min(15rem,100%)}
.tools button{min-width:2.2rem}
.legend button{display:inline-flex;gap:.4rem;align-items:center;padding:.15rem .55rem;cursor:pointer}
.legend button[aria-pressed=true]{border-color:var(--ink);box-shadow:inset 0 0 0 1px var(--ink)}
.tools label{display:flex;flex-wrap:wrap;gap:.1rem .5rem;align-items:center;max-width:100%}
.swatch{width:19px;height:19px;border:3px solid var(--c,var(--base));border-radius:3px}
.both{display:grid;grid-template-columns:minmax(0,1fr) 250px;gap:1rem;align-items:start}
@media (max-width:760px){.both{grid-template-columns:minmax(0,1fr)}}
#map{position:relative;overflow:clip;aspect-ratio:1;max-height:78vh;width:100%;background:var(--soft);
border-radius:8px;touch-action:none;cursor:grab}
#plane{position:absolute;inset:24px}
.tile{aspect-ratio:var(--shape);background-repeat:no-repeat}
.clip{position:absolute;width:var(--t,34px);transform:translate(-50%,-50%);padding:0;
border:3px solid var(--c,var(--base));
border-radius:4px;background-origin:border-box;cursor:pointer}
.dashed{border-style:dashed}.double{border-style:double;border-width:5px}.other{border-style:dotted}
.clip.dim{opacity:.12}.clip.near{outline:3px solid var(--ink);z-index:2}
.clip:hover,.clip.now,.clip:focus-visible{z-index:3;outline:3px solid var(--link);outline-offset:1px}
.clip:hover,.clip.now{width:calc(var(--t,34px)*1.6)}
#panel{background:var(--soft);border-radius:8px;padding:.8rem;min-height:9rem}
#big{width:100%;max-width:224px;border-radius:6px}#big:not([class*=" s"]){display:none}
#panel p{margin:.35rem 0}#panel .key{font-size:.82rem;color:var(--muted);
font-family:ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace}
#label{font-weight:650}#panel h3{margin:.8rem 0 .3rem}
#near{list-style:none;margin:0;padding:0;display:grid;gap:.35rem}
#near button{display:flex;gap:.5rem;align-items:center;width:100%;text-align:left;padding:.25rem;cursor:pointer}
#near .tile{flex:0 0 44px;border-radius:3px}#near small{color:var(--muted)}
"""

SCRIPT = """
"use strict";
const $=id=>document.getElementById(id),map=$("map"),plane=$("plane"),clips=[...plane.children];
const number=new Map(clips.map((c,n)=>[c,n]));
const text=clips.map(c=>(c.dataset.key+" "+(c.dataset.label||"")).toLowerCase());
const places=clips.map(c=>[parseFloat(c.style.left)/100,parseFloat(c.style.top)/100]);
const shown=new Set();let zoom=1,left=0,top_=0,now=-1,drag=null;
function side(){return Math.max(60,Math.min(map.clientWidth,map.clientHeight)-48)}
function place(){const s=side()*zoom,w=map.clientWidth,h=map.clientHeight,slack=40;
left=Math.min(w-slack,Math.max(slack-s,left));top_=Math.min(h-slack,Math.max(slack-s,top_));
plane.style.cssText="inset:auto;width:"+s+"px;height:"+s+"px;left:"+left+"px;top:"+top_+"px";
const small=clips.length>300?30:clips.length>120?38:48;
map.style.setProperty("--t",Math.min(96,small*Math.sqrt(zoom))+"px")}
function whole(){zoom=1;const s=side();left=(map.clientWidth-s)/2;top_=(map.clientHeight-s)/2;place()}
function zoomAt(factor,x,y){const wanted=Math.min(24,Math.max(1,zoom*factor));factor=wanted/zoom;
left=x-(x-left)*factor;top_=y-(y-top_)*factor;zoom=wanted;if(zoom===1)whole();else place()}
function middle(){if(now<0)return[map.clientWidth/2,map.clientHeight/2];
const s=side()*zoom;return[left+places[now][0]*s,top_+places[now][1]*s]}
function reveal(n){const s=side()*zoom,x=left+places[n][0]*s,y=top_+places[n][1]*s,m=30;
if(x<m)left+=m-x;if(x>map.clientWidth-m)left-=x-map.clientWidth+m;
if(y<m)top_+=m-y;if(y>map.clientHeight-m)top_-=y-map.clientHeight+m;place()}
function tile(n,into){into.className="tile "+[...clips[n].classList].find(c=>/^s\\d+$/.test(c));
into.style.backgroundPosition=clips[n].style.backgroundPosition}
function list(name,n){return(clips[n].dataset[name]||"").split(",").filter(Boolean)}
function show(n){if(n===now)return;
if(now>=0){clips[now].classList.remove("now");clips[now].tabIndex=-1}else clips[0].tabIndex=-1;
for(const c of plane.querySelectorAll(".near"))c.classList.remove("near");
now=n;const clip=clips[n];clip.classList.add("now");clip.tabIndex=0;
tile(n,$("big"));$("key").textContent=clip.dataset.key;$("label").textContent=clip.dataset.label||"no label";
const near=list("near",n).map(Number),close=list("close",n);$("near-title").hidden=!near.length;
$("near").replaceChildren(...near.map((k,i)=>{clips[k].classList.add("near");
const item=document.createElement("li"),go=document.createElement("button"),picture=document.createElement("span"),
words=document.createElement("span"),small=document.createElement("small"),name=document.createElement("bdi");
go.type="button";tile(k,picture);name.textContent=clips[k].dataset.label||"no label";
small.textContent=" "+close[i]+" "+clips[k].dataset.key;words.append(name,small);go.append(picture,words);
go.addEventListener("click",()=>{reveal(k);clips[k].focus({preventScroll:true})});item.append(go);return item}))}
function filter(){const wanted=$("search").value.trim().toLowerCase();let count=0;
clips.forEach((c,n)=>{const fits=text[n].includes(wanted)&&(!shown.size||shown.has(c.dataset.label));
c.classList.toggle("dim",!fits);count+=fits});
$("found").textContent=wanted||shown.size?count+" of "+clips.length+" clips":""}
function step(dx,dy){const[x,y]=places[now];let best=-1,least=Infinity;
places.forEach(([a,b],n)=>{if(n===now||clips[n].classList.contains("dim"))return;
const along=(a-x)*dx+(b-y)*dy,aside=Math.abs((a-x)*dy)+Math.abs((b-y)*dx);
if(along>0&&along+2*aside<least){least=along+2*aside;best=n}});
if(best>=0){reveal(best);clips[best].focus({preventScroll:true})}}
plane.addEventListener("focusin",e=>{const n=number.get(e.target);if(n!==undefined){show(n);reveal(n)}});
plane.addEventListener("pointerover",e=>{const n=number.get(e.target);if(n!==undefined&&!drag)show(n)});
const ways={ArrowLeft:[-1,0],ArrowRight:[1,0],ArrowUp:[0,-1],ArrowDown:[0,1]};
map.addEventListener("keydown",e=>{if(e.ctrlKey||e.metaKey||e.altKey)return;
const way=ways[e.key],n=number.get(e.target);
if(way&&e.shiftKey){left-=way[0]*60;top_-=way[1]*60;place()}
else if(way&&n!==undefined){show(n);step(...way)}
else if(e.key==="+"||e.key==="=")zoomAt(1.5,...middle());else if(e.key==="-")zoomAt(1/1.5,...middle());
else if(e.key==="0")whole();else return;e.preventDefault()});
map.addEventListener("wheel",e=>{if(!e.ctrlKey&&zoom===1&&e.deltaY>0)return;e.preventDefault();
const r=map.getBoundingClientRect();zoomAt(Math.exp(-e.deltaY/400),e.clientX-r.left,e.clientY-r.top)},{passive:false});
const fingers=new Map();
map.addEventListener("pointerdown",e=>{fingers.set(e.pointerId,[e.clientX,e.clientY]);drag={moved:false}});
map.addEventListener("pointermove",e=>{const was=fingers.get(e.pointerId);if(!was)return;
const r=map.getBoundingClientRect(),at=[e.clientX,e.clientY];
if(fingers.size===2){const other=[...fingers].find(([id])=>id!==e.pointerId)[1];
const d=p=>Math.hypot(p[0]-other[0],p[1]-other[1]);
zoomAt(d(at)/Math.max(d(was),1),(at[0]+other[0])/2-r.left,(at[1]+other[1])/2-r.top)}
else{left+=at[0]-was[0];top_+=at[1]-was[1];place()}
fingers.set(e.pointerId,at)});
for(const end of["pointerup","pointercancel","pointerleave"])map.addEventListener(end,e=>{
fingers.delete(e.pointerId);if(!fingers.size)drag=null});
$("in").addEventListener("click",()=>zoomAt(1.5,...middle()));
$("out").addEventListener("click",()=>zoomAt(1/1.5,...middle()));$("whole").addEventListener("click",whole);
$("search").addEventListener("input",filter);
$("search").addEventListener("keydown",e=>{if(e.key!=="Enter")return;
const n=clips.findIndex(c=>!c.classList.contains("dim"));if(n>=0){reveal(n);clips[n].focus({preventScroll:true})}});
for(const b of document.querySelectorAll(".legend button"))b.addEventListener("click",()=>{
const on=b.getAttribute("aria-pressed")!=="true";b.setAttribute("aria-pressed",on);
if(on)shown.add(b.dataset.label);else shown.delete(b.dataset.label);filter()});
addEventListener("resize",()=>zoom===1?whole():place());whole();
"""
